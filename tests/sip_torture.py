"""Torture messages after RFC 4475, under the names they have there, and what is to be read of them."""

from dataclasses import dataclass

from recorderd.wire.sip import BODY_CUT

SDP = (
    b"v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 49217 RTP/AVP 0 12\r\nm=video 3227 RTP/AVP 31\r\na=rtpmap:31 LPC\r\n"
)


@dataclass(frozen=True)
class Vector:
    """A message and what is to be read from it; None for `call_id` where it is to be refused."""

    data: bytes
    call_id: str | None
    tag: str = ""
    user: str = ""
    defects: tuple[str, ...] = ()


def lines(*parts: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((*parts, b"", body))


def plain(
    start: bytes, name: bytes, *extra: bytes, to: bytes = b"sip:user@example.com", body: bytes = b""
) -> bytes:
    """A message that is in order but for what the test puts into it."""
    method = b"INVITE" if start.startswith(b"SIP/") else start.split()[0]
    given = {line.partition(b":")[0].strip().lower() for line in extra}
    usual = {
        b"to": b"To: " + to,
        b"from": b"From: sip:caller@example.net;tag=" + name,
        b"via": b"Via: SIP/2.0/UDP host.example.net;branch=z9hG4bK" + name,
        b"call-id": b"Call-ID: " + name + b".call",
        b"cseq": b"CSeq: 12 " + method,
        b"max-forwards": b"Max-Forwards: 70",
    }
    return lines(start, *(value for key, value in usual.items() if key not in given), *extra, body=body)


WSINV = lines(
    b"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0",
    b"TO :",
    b" sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n",
    b'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>',
    b"  ;",
    b"  tag = 98asjd8",
    b"MaX-fOrWaRdS: 0068",
    b"Call-ID: wsinv.ndaksdj@192.0.2.1",
    b"Content-Length   : %d" % len(SDP),
    b"cseq: 0009",
    b"  INVITE",
    b"Via  : SIP  /   2.0",
    b" /UDP",
    b"    192.0.2.2;branch=390skdjuw",
    b"s :",
    b"NewFangledHeader:   newfangled value",
    b" continued newfangled value",
    b"UnknownHeaderWithUnusualValue: ;;,,;;,;",
    b"Content-Type: application/sdp",
    b"Route:",
    b" <sip:services.example.com;lr;unknownwith=value;unknown-no-value>",
    b"v:  SIP  / 2.0  / TCP     spindle.example.com   ;",
    b"  branch  =   z9hG4bK9ikj8  ,",
    b" SIP  /    2.0   / UDP  192.168.255.111   ; branch=",
    b" z9hG4bK30239",
    b'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =',
    b"      newvalue ;",
    b"  secondparam ; q = 0.33",
    body=SDP,
)
ODD_METHOD = b"!interesting-Method0123456789_*+`.%indeed'~"
INTMETH = lines(
    ODD_METHOD + b" sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    b":&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0",
    b"Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~",
    b'To: "BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f" '
    b"<sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>",
    "From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>"
    ";fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.".encode(),
    b"Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
    b"CSeq: 139122385 " + ODD_METHOD,
    b"Max-Forwards: 255",
    "extensionHeader-!.%*+_`'~:\ufeff大停電".encode(),
    b"Content-Length: 0",
)
LONGREQ = lines(
    b"INVITE sip:user@example.com SIP/2.0",
    b'To: "I have a user name of '
    + b"extreme" * 10
    + b' proportion"<sip:user@example.com:6000;a='
    + b"long" * 20
    + b">",
    b"F: sip:"
    + b"amazinglylongcallername" * 5
    + b"@example.net;tag=12"
    + b"982" * 50
    + b"424;"
    + b"p" * 200
    + b"=1",
    b"Call-ID: longreq.one" + b"really" * 20 + b"longcallid",
    b"CSeq: 3882340 INVITE",
    b"Unknown-" + b"Long" * 30 + b"-Name: unknown-value; unknown-parameter = x",
    *(b"ViA :  SIP/2.0/TCP sip%d.example.com" % n for n in range(33)),
    b"Via: SIP/2.0/TCP host.example.com;received=192.0.2.5;branch=very" + b"long" * 50 + b"branchvalue",
    b"Content-Type: application/sdp",
    b"l: %d" % len(SDP),
    body=SDP,
)
MPART = (
    b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\nHello\r\n"
    b"--7a9cbec02ceef655\r\nContent-Type: application/octet-stream\r\n\r\n\x00\x01\xff\r\n\x00--7a9c\r\n"
    b"--7a9cbec02ceef655\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--7a9cbec02ceef655--\r\n"
)
REG, INV, OPT = (
    b"REGISTER sip:example.com SIP/2.0",
    b"INVITE sip:user@example.com SIP/2.0",
    b"OPTIONS sip:user@example.com SIP/2.0",
)
LENGTH = b"Content-Length: %d"
UNKNOWN_BODY = b'<audio>\r\n <pcmu port="443"/>\r\n</audio>\r\n'
TYPE = b"Content-Type: application/sdp"

VECTORS = {
    # 3.1.1: valid, if odd
    "wsinv": Vector(WSINV, "wsinv.ndaksdj@192.0.2.1", "98asjd8", "jdrosen"),
    "intmeth": Vector(INTMETH, "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{", "_token~1'+`*%!-.", "mundane"),
    "esc01": Vector(
        plain(
            b"INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0",
            b"esc01",
            b"From: <sip:I%20have%20spaces@example.net>;tag=938",
            b"C: application/sdp",
            LENGTH % len(SDP),
            body=SDP,
        ),
        "esc01.call",
        "938",
        "I have spaces",
    ),
    "escnull": Vector(
        plain(
            REG,
            b"escnull",
            b"From: sip:null-%00-null@example.com;tag=839923423",
            b"Contact: <sip:%00@host5.example.com>",
            b"Contact: <sip:%00%00@host5.example.com>",
            b"L:0",
        ),
        "escnull.call",
        "839923423",
        "null-\0-null",
    ),
    "esc02": Vector(
        plain(
            b"RE%47IST%45R sip:registrar.example.com SIP/2.0",
            b"esc02",
            b'From: "%Z%45" <sip:resource@example.com>;tag=f232',
            b"C%6Fntact: <sip:alias2@host2.example.com>",
            b"l: 0",
        ),
        "esc02.call",
        "f232",
        "resource",
    ),
    "lwsdisp": Vector(
        plain(OPT, b"lwsdisp", b"From: caller<sip:caller@example.com>;tag=323", b"l: 0"),
        "lwsdisp.call",
        "323",
        "caller",
    ),
    "longreq": Vector(
        LONGREQ,
        "longreq.one" + "really" * 20 + "longcallid",
        "12" + "982" * 50 + "424",
        "amazinglylongcallername" * 5,
    ),
    "dblreq": Vector(
        plain(REG, b"dblreq", b"Content-Length: 0") + plain(INV, b"second", LENGTH % len(SDP), body=SDP),
        "dblreq.call",
        "dblreq",
        "caller",
        ("bytes after the body",),
    ),
    "semiuri": Vector(
        plain(
            b"OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0",
            b"semiuri",
            b"From: <sip:user;par=u%40example.net@example.com>;tag=33242",
            b"l: 0",
        ),
        "semiuri.call",
        "33242",
        "user;par=u@example.net",
    ),
    "transports": Vector(
        plain(
            OPT,
            b"transports",
            *(
                b"Via: SIP/2.0/%s t%d.example.com;branch=z9hG4bK%d" % (t, n, n)
                for n, t in enumerate((b"UDP", b"SCTP", b"TLS", b"UNKNOWN", b"TCP"))
            ),
            b"l: 0",
        ),
        "transports.call",
        "transports",
        "caller",
    ),
    "mpart01": Vector(
        plain(
            INV,
            b"mpart01",
            b"Content-Type: multipart/mixed;boundary=7a9cbec02ceef655",
            LENGTH % len(MPART),
            body=MPART,
        ),
        "mpart01.call",
        "mpart01",
        "caller",
    ),
    "unreason": Vector(
        plain(
            "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое".encode(),
            b"unreason",
            b"Content-Length: 0",
        ),
        "unreason.call",
        "unreason",
        "caller",
    ),
    "noreason": Vector(
        plain(b"SIP/2.0 100 ", b"noreason", b"Content-Length: 0"), "noreason.call", "noreason", "caller"
    ),
    # 3.1.2: invalid
    "badinv01": Vector(
        plain(
            INV,
            b"badinv01",
            b"Via: SIP/2.0/UDP 192.0.2.15;;,;,,",
            b'From: "Joe" <sip:joe@example.org>;;;;tag=1',
            b'Contact: "Joe" <sip:joe@example.org>;;;;',
            b"Content-Length: 0",
        ),
        "badinv01.call",
        "1",
        "joe",
    ),
    "clerr": Vector(
        plain(INV, b"clerr", TYPE, b"Content-Length: 9999", body=SDP),
        "clerr.call",
        "clerr",
        "caller",
        (BODY_CUT,),
    ),
    "ncl": Vector(
        plain(INV, b"ncl", TYPE, b"Content-Length: -999", body=SDP),
        "ncl.call",
        "ncl",
        "caller",
        ("the Content-Length cannot be read",),
    ),
    "scalar02": Vector(
        plain(
            REG,
            b"scalar02",
            b"CSeq: 36893488147419103232 REGISTER",
            b"Max-Forwards: 300",
            b"Expires: 1" + b"0" * 90,
            b"l: 0",
        ),
        "scalar02.call",
        "scalar02",
        "caller",
        ("no readable CSeq",),
    ),
    "scalarlg": Vector(
        plain(
            b"SIP/2.0 503 Service Unavailable",
            b"scalarlg",
            b"CSeq: 9292394834772304023312 OPTIONS",
            b"Retry-After: 949302838503028349304023988",
            b"Content-Length: 0",
        ),
        None,
    ),
    "quotbal": Vector(
        plain(
            INV,
            b"quotbal",
            b'From: "Watson, Thomas <sip:t.watson@example.org>;tag=9',
            LENGTH % len(SDP),
            TYPE,
            body=SDP,
        ),
        "quotbal.call",
        "9",
        "t.watson",
        ("the From is malformed",),
    ),
    "ltgtruri": Vector(
        plain(b"INVITE <sip:user@example.com> SIP/2.0", b"ltgtruri", TYPE, LENGTH % len(SDP), body=SDP),
        "ltgtruri.call",
        "ltgtruri",
        "caller",
    ),
    "lwsruri": Vector(
        plain(b"INVITE sip:user@example.com; lr SIP/2.0", b"lwsruri", TYPE, LENGTH % len(SDP), body=SDP),
        "lwsruri.call",
        "lwsruri",
        "caller",
        ("white space in the request line",),
    ),
    "lwsstart": Vector(
        plain(b"INVITE  sip:user@example.com  SIP/2.0", b"lwsstart", TYPE, LENGTH % len(SDP), body=SDP),
        "lwsstart.call",
        "lwsstart",
        "caller",
        ("white space in the request line",),
    ),
    "trws": Vector(
        plain(b"OPTIONS sip:remote-target@example.com SIP/2.0  ", b"trws", b"l: 0"),
        "trws.call",
        "trws",
        "caller",
        ("white space in the request line",),
    ),
    "escruri": Vector(
        plain(
            b"INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0",
            b"escruri",
            TYPE,
            LENGTH % len(SDP),
            body=SDP,
        ),
        "escruri.call",
        "escruri",
        "caller",
    ),
    "baddate": Vector(
        plain(INV, b"baddate", b"Date: Fri, 01 Jan 2010 16:00:00 EST", TYPE, LENGTH % len(SDP), body=SDP),
        "baddate.call",
        "baddate",
        "caller",
    ),
    "regbadct": Vector(
        plain(REG, b"regbadct", b"Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E", b"l: 0"),
        "regbadct.call",
        "regbadct",
        "caller",
    ),
    "badaspec": Vector(
        plain(
            OPT,
            b"badaspec",
            b"From: <sip:caller @example.org>;tag=17",
            b"l: 0",
            to=b'"Watson, Thomas" < sip:t.watson@example.org >',
        ),
        "badaspec.call",
        "17",
        "caller ",
        ("the From is malformed",),
    ),
    "baddn": Vector(
        plain(OPT, b"baddn", b"From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43", b"L: 0"),
        "baddn.call",
        "43",
        "a.g.bell",
    ),
    "badvers": Vector(
        plain(b"OPTIONS sip:t.watson@example.org SIP/7.0", b"badvers", b"l: 0"),
        "badvers.call",
        "badvers",
        "caller",
        ("not SIP/2.0",),
    ),
    "mismatch01": Vector(
        plain(OPT, b"mismatch01", b"CSeq: 8 INVITE", b"l: 0"),
        "mismatch01.call",
        "mismatch01",
        "caller",
        ("the CSeq is of another method",),
    ),
    "mismatch02": Vector(
        plain(
            b"NEWMETHOD sip:user@example.com SIP/2.0",
            b"mismatch02",
            b"CSeq: 8 INVITE",
            TYPE,
            LENGTH % len(SDP),
            body=SDP,
        ),
        "mismatch02.call",
        "mismatch02",
        "caller",
        ("the CSeq is of another method",),
    ),
    "bigcode": Vector(
        plain(b"SIP/2.0 4294967301 better not break the receiver", b"bigcode", b"Content-Length: 0"), None
    ),
    # 3.2 and 3.3
    "badbranch": Vector(
        plain(OPT, b"badbranch", b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK", b"l: 0"),
        "badbranch.call",
        "badbranch",
        "caller",
    ),
    "insuf": Vector(
        lines(INV, b"CSeq: 193942 INVITE", b"Via: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf", b"l: 0"),
        None,
    ),
    "unkscm": Vector(
        plain(b"OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", b"unkscm", b"l: 0"),
        "unkscm.call",
        "unkscm",
        "caller",
    ),
    "novelsc": Vector(
        plain(
            b"OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0",
            b"novelsc",
            b"From: sip:caller@example.net;tag=384",
            b"CSeq: 3923423 OPTIONS",
            LENGTH % 0,
        ),
        "novelsc.call",
        "384",
        "caller",
    ),
    "bext01": Vector(
        plain(
            OPT,
            b"bext01",
            b"From: sip:caller@example.net;tag=242etr",
            b"Require: nothingSupportsThis, nothingSupportsThisEither",
            b"Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis",
            LENGTH % 0,
        ),
        "bext01.call",
        "242etr",
        "caller",
    ),
    "invut": Vector(
        plain(
            INV,
            b"invut",
            b"Contact: <sip:caller@host5.example.net>",
            b"Content-Type: application/unknownformat",
            LENGTH % len(UNKNOWN_BODY),
            body=UNKNOWN_BODY,
        ),
        "invut.call",
        "invut",
        "caller",
    ),
    "regaut01": Vector(
        plain(
            REG,
            b"regaut01",
            b"From: sip:j.user@example.com;tag=87321hj23128",
            b"CSeq: 9338 REGISTER",
            b"Authorization: NoOneKnowsThisScheme opaque-data=here",
            LENGTH % 0,
            to=b"sip:j.user@example.com",
        ),
        "regaut01.call",
        "87321hj23128",
        "j.user",
    ),
    "bcast": Vector(
        plain(
            b"SIP/2.0 200 OK",
            b"bcast",
            b"Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923",
            b"From: sip:user@example.com;tag=11141343",
            b"CSeq: 35 INVITE",
            LENGTH % len(SDP),
            TYPE,
            b"Contact: <sip:user@host28.example.com>",
            to=b"sip:user@example.edu;tag=2229",
            body=SDP,
        ),
        "bcast.call",
        "11141343",
        "user",
    ),
    "cparam01": Vector(
        plain(
            REG,
            b"cparam01",
            b"From: sip:watson@example.com;tag=838293",
            b"Contact: sip:+19725552222@gw1.example.net;unknownparam",
            b"CSeq: 3 REGISTER",
            b"l: 0",
            to=b"sip:watson@example.com",
        ),
        "cparam01.call",
        "838293",
        "watson",
    ),
    "cparam02": Vector(
        plain(
            REG,
            b"cparam02",
            b"From: sip:watson@example.com;tag=838293",
            b"Contact: <sip:+19725552222@gw1.example.net;unknownparam>",
            b"CSeq: 3 REGISTER",
            b"l: 0",
            to=b"sip:watson@example.com",
        ),
        "cparam02.call",
        "838293",
        "watson",
    ),
    "regescrt": Vector(
        plain(
            REG,
            b"regescrt",
            b"From: sip:user@example.com;tag=8",
            b"CSeq: 14398234 REGISTER",
            b"M: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>",
            b"L:0",
        ),
        "regescrt.call",
        "8",
        "user",
    ),
    "sdp01": Vector(
        plain(
            INV,
            b"sdp01",
            b"From: sip:caller@example.net;tag=2234923",
            b"Accept: text/nothing",
            TYPE,
            LENGTH % len(SDP),
            body=SDP,
        ),
        "sdp01.call",
        "2234923",
        "caller",
    ),
    "unksm2": Vector(
        plain(REG, b"unksm2", b"From: <http://www.example.com>;tag=3234233", b"l: 0", to=b"isbn:2983792873"),
        "unksm2.call",
        "3234233",
        "",
    ),
    "multi01": Vector(
        plain(
            INV,
            b"multi01",
            b"From: sip:caller@example.com;tag=3413415",
            b"From: sip:caller@example.net;tag=2923420123",
            b"CSeq: 5 INVITE",
            b"CSeq: 59 INVITE",
            b"Call-ID: multi01.1",
            b"Call-ID: multi01.2",
            b"Max-Forwards: 70",
            b"Max-Forwards: 5",
            TYPE,
            LENGTH % len(SDP),
            body=SDP,
        ),
        "multi01.1",
        "3413415",
        "caller",
        ("more than one from", "more than one cseq", "more than one call-id"),
    ),
    "mcl01": Vector(
        plain(
            OPT,
            b"mcl01",
            b"Content-Length: 13",
            b"Content-Length: 5",
            body=b"There's no way to know how many octets",
        ),
        "mcl01.call",
        "mcl01",
        "caller",
        ("more than one content-length", "the Content-Length cannot be read"),
    ),
    "zeromf": Vector(plain(OPT, b"zeromf", b"Max-Forwards: 0", b"l: 0"), "zeromf.call", "zeromf", "caller"),
    "inv2543": Vector(
        lines(
            b"INVITE sip:UserB@example.com SIP/2.0",
            b"Via: SIP/2.0/UDP iftgw.example.com",
            b"From: <sip:+13035551111@ift.client.example.net;user=phone>",
            b"Record-Route: <sip:UserB@example.com;maddr=ss1.example.com>",
            b"To: sip:+16505552222@ss1.example.net;user=phone",
            b"Call-ID: inv2543.1717@ift.client.example.com",
            b"CSeq: 56 INVITE",
            TYPE,
            body=SDP,
        ),
        "inv2543.1717@ift.client.example.com",
        "",
        "+13035551111",
    ),
}
