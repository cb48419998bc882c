"""The errors that people see. Every message says what is wrong, where, and what to do next.

MinikinError              exit 1   something failed that is nobody's input
├── UserError             exit 2   bad input: a file, an option, a recipe, a text
│   ├── RecipeError                faults in the recipe, all at once
│   ├── DataError                  faults in the data, by row number
│   ├── TeacherError               the teacher can't be found, read or trusted
│   ├── KinError                   a kin that is missing, changed, or newer than this version
│   ├── MissingExtra               an optional dependency is not installed
│   ├── QueueError                 the queue can't be read or written, or an answer doesn't fit it
│   ├── CertificateError           labels that can't certify, or nothing that they can prove
│   ├── BusyError                  another build holds the folder
│   └── BudgetError                no candidate fits the budget
└── GateFailed            exit 3   the kin was built and measured, and misses the recipe's floor
"""

from __future__ import annotations

from collections.abc import Sequence


class MinikinError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class UserError(MinikinError):
    """Bad input, with what to do next."""

    exit_code = 2


class _Faults(UserError):
    """Several faults reported together."""

    def __init__(self, headline: str, faults: Sequence[str] = ()) -> None:
        self.headline = headline
        self.faults = list(faults)
        super().__init__("\n".join([headline, *(f"  - {fault}" for fault in self.faults)]))


class RecipeError(_Faults):
    """The recipe has faults; each carries its line and the nearest valid key."""


class DataError(_Faults):
    """The data has faults; each carries its row number."""


class TeacherError(UserError):
    """The teacher can't be found, read or trusted."""


class KinError(UserError):
    """A kin folder is missing a file, was changed, or is of a newer schema."""


class QueueError(UserError):
    """The queue of handed-over texts can't be read or written, or an answer doesn't fit it."""


class CertificateError(UserError):
    """The labels can't certify what was asked; the message says what is missing."""


class BusyError(UserError):
    """Another process is building in the same folder."""


class BudgetError(UserError):
    """No candidate fits the budget; the message names the nearest possible one."""


class MissingExtra(UserError):
    """An optional dependency is missing; the message is the pip command that installs it."""

    def __init__(self, module: str, extra: str) -> None:
        self.module, self.extra = module, extra
        super().__init__(
            f"This needs the package '{module}', which is not installed. "
            f'Install it with: pip install "minikin[{extra}]"'
        )


class GateFailed(MinikinError):
    """The kin misses the recipe's floor; everything is kept, and `folder` says where."""

    exit_code = 3

    def __init__(self, reasons: Sequence[str], folder: str) -> None:
        self.reasons, self.folder = list(reasons), folder
        super().__init__(
            "\n".join(["The gate failed:", *(f"  - {r}" for r in reasons), f"Everything is kept in {folder}"])
        )
