"""An import-linter contract of our own: the closed list of third-party packages that a module may import.

`forbidden` needs every unwanted package by name, and would let a new dependency pass unseen.
"""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output
from importlinter.domain.helpers import module_expressions_to_modules


class ThirdPartyContract(Contract):
    """Modules, with all inside them, import only the standard library, each other's roots and `allowed`."""

    type_name = "third_party"

    modules = fields.SetField(subfield=fields.ModuleExpressionField())
    allowed = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        known = {*sys.stdlib_module_names, *self.session_options["root_packages"], *self.allowed}  # type: ignore[misc]
        importers = module_expressions_to_modules(graph, self.modules, as_packages=True)  # type: ignore[arg-type]
        strangers = sorted(
            (importer.name, imported)
            for importer in importers
            if importer.name in graph.modules
            for imported in graph.find_modules_directly_imported_by(importer.name)
            if imported.partition(".")[0] not in known
        )
        return ContractCheck(kept=not strangers, metadata={"strangers": strangers})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["strangers"]:
            output.print_error(f"{importer} is not allowed to import {imported}", bold=False)
