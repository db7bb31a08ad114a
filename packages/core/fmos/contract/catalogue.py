"""The catalogue: what a home has to offer, per dimension (model, embed_store, placement, ...).

    apiVersion: agentos/v0.2
    kind: Catalogue
    model:
      - { name: asr_local_v2, placement: edge, deadline_ms: 8 }
      - { name: asr_local_v3, placement: edge, canary: { share: 0.05 } }
    embed_store: [A, B]

It lies in `$FMOS_HOME/catalogue.yaml`. It says what there is, never who may have it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from fmos.canonical import content_digest
from fmos.contract.complaints import all_complaints, refusal
from fmos.contract.formats import upgraded
from fmos.contract.model import Amount, Milliseconds, Name, Names
from fmos.contract.parse import read_text, read_trees
from fmos.contract.versions import VersionedName, parse_name, parse_version
from fmos.errors import ContractError
from fmos.types import Record

FILE_NAME = "catalogue.yaml"


def _version_text(value: object) -> object:
    """Take 2 for "2"; refuse 2.10, which YAML reads as 2.1."""
    if isinstance(value, float):
        raise ValueError(f'write the version as text, such as "{value}": YAML drops zeros')
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class CanaryShare(Record):
    """How many of the sessions get a new version, from 0 to 1."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.05


class Offer(Record):
    """One thing that can be had, and what is known of it; what is not said is not known."""

    name: Name
    version: Annotated[str, BeforeValidator(_version_text)] | None = Field(
        default=None, description='such as "2.1", when the name does not end in it'
    )
    provides: Names = Field(default=(), description="capabilities that come with it")
    placement: Names = Field(default=(), description="where it runs, such as `edge`")
    residency: Names = Field(default=(), description="where its data stays, such as `EU`")
    max_context_tokens: Amount | None = None
    deadline_ms: Milliseconds | None = Field(default=None, description="it answers within this")
    requires: Names = Field(default=(), description="names that something else must offer")
    canary: CanaryShare | None = None
    healthy: bool = True

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_version(self) -> Offer:
        if self.version is None:
            return self
        version, named = parse_version(self.version), parse_name(self.name).version
        if named and named != version:
            raise ValueError(f"{self.name!r} is not version {self.version!r}; keep one of them")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of an offer, for which its name alone may stand."""
        return {"anyOf": [{"type": "string", "minLength": 1}, handler(schema)]}

    @functools.cached_property
    def versioned(self) -> VersionedName:
        """The name with its version, whichever way it is written."""
        name = parse_name(self.name)
        if self.version is None or name.version:
            return name
        return parse_name(f"{self.name}_v{self.version.removeprefix('v')}")

    @property
    def label(self) -> str:
        """What a manifest calls it."""
        return self.versioned.text


class Catalogue(Record):
    """Everything on offer. A dimension that is not named here has nothing to offer."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, tuple[Offer, ...]] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride] - the documented way to type extras

    apiVersion: Literal["agentos/v0.2"] = "agentos/v0.2"
    kind: Literal["Catalogue"] = "Catalogue"

    @model_validator(mode="after")
    def _offered_once(self) -> Catalogue:
        for dimension, offers in self.dimensions.items():
            seen: set[object] = set()
            for offer in offers:
                if offer.versioned.identity in seen:
                    raise ValueError(f"{dimension} offers {offer.label!r} twice; keep one of them")
                seen.add(offer.versioned.identity)
        return self

    @property
    def dimensions(self) -> dict[str, tuple[Offer, ...]]:
        """The offers of each dimension, in the catalogue's order."""
        return self.__pydantic_extra__

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of its canonical JSON."""
        return content_digest(self.model_dump(mode="json"))

    def offers(self, dimension: str) -> tuple[Offer, ...] | None:
        """Return what a dimension offers; None if the catalogue does not speak of it."""
        return self.dimensions.get(dimension)

    def all_offers(self) -> Iterator[Offer]:
        """Return the offers of every dimension."""
        for offers in self.dimensions.values():
            yield from offers


def load_catalogue(path: Path) -> Catalogue:
    """Read a catalogue from a YAML or JSON file.

    Raises:
        ContractError: naming line, column and field of what is wrong.
    """
    return parse_catalogue(read_text(path), str(path))


def parse_catalogue(text: str, source: str = "<text>") -> Catalogue:
    """Read a catalogue from YAML or JSON.

    Raises:
        ContractError: naming line, column and field of what is wrong.
    """
    trees = list(read_trees(text, source))
    values: object = trees[0].values if len(trees) == 1 else None
    if not isinstance(values, dict) or values.get("kind") != "Catalogue":
        raise ContractError(
            f"{source} is not a catalogue: it must be one mapping with `kind: Catalogue`",
            hint="begin with `kind: Catalogue`, then one list for each of model, tools, ...",
        )
    return _validated(upgraded(values), trees[0].root, source)


def _validated(fields: dict[Any, Any], root: yaml.Node, source: str) -> Catalogue:
    catalogue: Catalogue | None = None
    failure: ValidationError | None = None
    try:
        catalogue = Catalogue.model_validate(fields)
    except ValidationError as error:
        failure = error
    complaints = all_complaints(failure, root, _shape(fields))
    if catalogue is None or complaints:
        raise refusal(complaints, source) from failure
    return catalogue


def _shape(fields: dict[Any, Any]) -> type[BaseModel]:
    """Return a record with this document's dimensions as fields: a complaint names its own."""
    names = [str(name) for name in fields if name not in Catalogue.model_fields]
    dimensions: dict[str, Any] = {
        f"dimension{number}": (tuple[Offer, ...], Field(default=(), alias=name))
        for number, name in enumerate(names)
    }
    return create_model("CatalogueShape", __base__=Record, **dimensions)
