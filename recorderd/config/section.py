"""What all sections of the configuration have in common."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo, model_validator
from pydantic_core import CoreSchema, core_schema


class Section(BaseModel):
    """A section: unknown keys are refused, values are strict, nothing changes after loading."""

    # A section's validator is built when the first file has it: most files have few sections, and a validator
    # takes longer to build than all of the file to read.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        # A section whose keys are all commented out is null to YAML.
        return {} if value is None else value


class _ByItself:
    """Keeps the validator of a section out of that of what it is part of."""

    @staticmethod
    def __get_pydantic_core_schema__(section: type[Section], handler: GetCoreSchemaHandler) -> CoreSchema:
        # Its errors are told with the keys that lead to it: pydantic puts them before each.
        def validated(value: object, info: ValidationInfo) -> Section:
            return section.model_validate(value, context=info.context)

        return core_schema.with_info_plain_validator_function(validated)


_S = TypeVar("_S", bound=Section)

Part = Annotated[_S, _ByItself]
"""A section in another one. Where a file need not have it, its default is ``model_construct``, which takes no
validator: ``part: Part[PartConfig] = Field(default_factory=PartConfig.model_construct)``."""
