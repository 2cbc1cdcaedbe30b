"""The two user agents of a test call on PJSIP's pjsua2, for hosts that have pjproject (the extra
``[pjsua2]``).

Written to the official API (https://docs.pjsip.org/en/latest/api/pjsua2.html). Both agents live in one
endpoint of this process, each with a transport of its own on 127.0.0.1; no sound device is opened.
"""

import importlib
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from recorderd.tools.agents import (
    AUDIO_OF,
    HOST,
    TICK_S,
    AgentError,
    CallReport,
    Codec,
    free_port,
    spoken_files,
)

CODEC_IDS: Final = {"pcmu": "PCMU/8000", "pcma": "PCMA/8000", "opus": "opus/48000"}
HIGHEST_PRIORITY: Final = 255
POLL_MS: Final = 20


def load_library() -> Any:
    """The pjsua2 module; raises AgentError, with what to do, where it is not installed."""
    try:
        return importlib.import_module("pjsua2")
    except ImportError as error:
        raise AgentError(
            "pjsua2 is not installed: build pjproject with its Python binding, or use the baresip agents"
        ) from error


def place_call(
    seconds: float,
    caller_wav: Path,
    callee_wav: Path,
    codec: Codec = "pcmu",
    *,
    sip_port: int = 5060,
    caller: str = "alice",
    callee: str = "bob",
    timeout: float = 15.0,
    while_talking: Callable[[str | None, float], None] | None = None,
) -> CallReport:
    """The same as :func:`recorderd.tools.agents.place_call`, between two accounts of one pjsua2 endpoint."""
    pj = load_library()
    endpoint = pj.Endpoint()
    rate, _ = AUDIO_OF[codec]
    with tempfile.TemporaryDirectory(prefix="test-call-") as scratch:
        folder = Path(scratch)
        log = folder / "log"
        spoken = spoken_files(folder, caller_wav, callee_wav, codec, seconds)
        try:
            _start(pj, endpoint, codec, rate, log)
            answering = _account(pj, endpoint, callee, sip_port, spoken["callee"])
            calling = _account(pj, endpoint, caller, free_port(socket.SOCK_DGRAM), spoken["caller"])
            call = calling.dial(f"sip:{callee}@{HOST}:{sip_port}")
            report = _follow(endpoint, call, seconds, timeout, while_talking)
            # Python must let go of them before the library ends.
            del call, calling, answering
        except pj.Error as error:
            raise AgentError(f"pjsua2: {error.info()}") from error
        finally:
            endpoint.libDestroy()
        text = log.read_text(errors="replace") if log.exists() else ""
    return CallReport(report.call_id, report.answered, report.seconds, text)


def _start(pj: Any, endpoint: Any, codec: Codec, rate: int, log: Path) -> None:
    """One endpoint without threads of its own: everything happens while we wait in ``libHandleEvents``."""
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.logConfig.consoleLevel = 0
    config.logConfig.filename = str(log)
    config.medConfig.clockRate = rate
    config.medConfig.noVad = True
    endpoint.libInit(config)
    endpoint.audDevManager().setNullDev()
    endpoint.libStart()
    for known in endpoint.codecEnum2():
        wanted = known.codecId.lower().startswith(CODEC_IDS[codec].lower())
        endpoint.codecSetPriority(known.codecId, HIGHEST_PRIORITY if wanted else 0)


def _account(pj: Any, endpoint: Any, user: str, port: int, wav: Path) -> Any:
    """An account on a transport of its own that answers every call and plays ``wav`` into it."""

    class PlayingCall(pj.Call):  # type: ignore[misc]
        def onCallMediaState(self, parameters: Any) -> None:  # noqa: N802 - the library's name
            for media in self.getInfo().media:
                if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                    self.player = pj.AudioMediaPlayer()
                    self.player.createPlayer(str(wav))
                    self.player.startTransmit(self.getAudioMedia(media.index))

    class Answering(pj.Account):  # type: ignore[misc]
        def onIncomingCall(self, parameters: Any) -> None:  # noqa: N802 - the library's name
            self.call = PlayingCall(self, parameters.callId)
            answer = pj.CallOpParam()
            answer.statusCode = pj.PJSIP_SC_OK
            self.call.answer(answer)

        def dial(self, uri: str) -> Any:
            self.call = PlayingCall(self)
            self.call.makeCall(uri, pj.CallOpParam(True))
            return self.call

    transport = pj.TransportConfig()
    transport.port, transport.boundAddress = port, HOST
    number = endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
    config = pj.AccountConfig()
    config.idUri = f"sip:{user}@{HOST}:{port}"
    config.sipConfig.transportId = number
    config.mediaConfig.transportConfig.boundAddress = HOST
    account = Answering()
    account.create(config)
    return account


def _follow(
    endpoint: Any,
    call: Any,
    seconds: float,
    timeout: float,
    tell: Callable[[str | None, float], None] | None,
) -> CallReport:
    """Pump the library until the call is over."""
    pj = load_library()
    call_id: str | None = None
    began: float | None = None
    told = 0.0
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        endpoint.libHandleEvents(POLL_MS)
        information = call.getInfo()
        call_id = information.callIdString or call_id
        if information.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            break
        if began is None and information.state == pj.PJSIP_INV_STATE_CONFIRMED:
            began = time.monotonic()
            deadline = began + seconds
        if began is not None and tell is not None and time.monotonic() - told >= TICK_S:
            told = time.monotonic()
            tell(call_id, told - began)
    talked = time.monotonic() - began if began is not None else 0.0
    if call.isActive():
        call.hangup(pj.CallOpParam())
        end = time.monotonic() + timeout
        while call.isActive() and time.monotonic() < end:
            endpoint.libHandleEvents(POLL_MS)
    return CallReport(call_id, began is not None, talked, "")
