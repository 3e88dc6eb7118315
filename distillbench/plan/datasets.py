"""Prompt sets and training images of the rows, looked at while planning.

What is wrong with a file is reported at the place of the experiment that names it, one line for
each entry or picture, so that nothing of it is left for a training to find.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from distillbench.api.backbone import Backbone
from distillbench.errors import BadInput
from distillbench.experiment.beside import looked_in
from distillbench.experiment.expand import GridPoint
from distillbench.files.marks import Problems, locate
from distillbench.files.places import data_root, images_folder, is_images_path
from distillbench.plan.resolve import Resolved, UsedBackbone

if TYPE_CHECKING:
    from distillbench.api.prompts import PromptSet

__all__ = ["Datasets", "Prompts"]

FITTING = ("resize", "background", "latents", "flip")


class Prompts(NamedTuple):
    """A prompt set: its content; the name or the path of a file, which is in no key; as written."""

    sha256: str
    source: str
    name: str

    @property
    def runtime(self) -> dict[str, str]:
        """What a stage is told of it beside its spec."""
        return {"prompts": self.source}


@dataclass
class Datasets:
    """Finds and checks them, each once."""

    problems: Problems
    notes: list[str]
    _prompts: dict[str, str] = field(default_factory=dict)
    _found: dict[str, PromptSet] = field(default_factory=dict)
    _fitted: set[tuple[str, str, bool]] = field(default_factory=set)
    _looked_at: set[tuple[str, bool]] = field(default_factory=set)
    _fitting: list[GridPoint] = field(default_factory=list)

    # ---- images -------------------------------------------------------------------------

    def training(self, point: GridPoint, resolved: Resolved) -> None:
        """Check what a row trains on."""
        if not resolved.trains:
            return
        self._fitting.append(point)
        data = point.config.data
        if not data.images:
            self.prompts(point, resolved, "data")
            return
        if data.prompts:
            what = "images bring their captions, and these prompts would not be used; keep one of "
            what += "the two (a row leaves out what it inherits with `prompts: ''` or `images: ''`)"
            self._problem(point, "data", "prompts", what)
        read = "latents" in resolved.method.needs
        encodes = type(resolved.used.backbone).encode_images is not Backbone.encode_images
        if (encodes or not read) and (data.images, read) not in self._looked_at:
            self._looked_at.add((data.images, read))
            self._images(point, data.images, pictures=read)

    def check(self) -> None:
        """Refuse settings of images where no row trains on any."""
        if any(point.config.data.images for point in self._fitting):
            return
        for point in self._fitting:
            for key in FITTING:
                if key in (point.tree.get("data") or {}):
                    self._problem(point, "data", key, "no row trains on images; set data.images")

    def _images(self, point: GridPoint, text: str, *, pictures: bool) -> None:
        folder, here = images_folder(text), Path(text).absolute()
        apart = here.is_dir() and not is_images_path(text)
        if not folder.is_dir():
            self._no_images(point, text, folder, here if apart else None)
            return
        if apart and here.resolve() != folder.resolve():
            self._note(point, "images", f"{text} is {folder}; the folder {here} is ./{text}")
        from distillbench.data.captions import picture_problems, read_captions

        try:
            captions = read_captions(folder)
            bad = picture_problems(captions) if pictures else []
        except BadInput as error:
            bad, captions = error.line.splitlines(), None
        for line in bad:
            self._problem(point, "data", "images", line)
        if captions is not None and captions.unread:
            self._unread(point, "images", f"{folder}/captions.jsonl", captions.unread)
        if captions is not None and captions.empty:
            self._note(point, "images", f"{captions.empty} of the captions are empty")

    def _no_images(self, point: GridPoint, text: str, folder: Path, here: Path | None) -> None:
        named = data_root() / "images" / Path(text).name
        if here is not None:
            what = (
                f"no image set {text!r}: no folder {folder}; for the folder {here} write ./{text}"
            )
            self._problem(point, "data", "images", what)
        elif is_images_path(text):
            also = f"; there is {named}, whose name is {named.name}" if named.is_dir() else ""
            where = looked_in(text, locate(point.tree, ("data", "images"))[0])
            self._problem(point, "data", "images", f"no folder {text}{where}{also}")
        else:
            what = f"image set {text!r} is not on this disk: no folder {folder}"
            self._note(point, "images", f"{what}, nor {Path(text).absolute()}; a run needs it")

    # ---- prompts ------------------------------------------------------------------------

    def prompts(self, point: GridPoint, resolved: Resolved, part: str) -> Prompts:
        """The prompt set a point trains on ("data") or is sampled for ("sample")."""
        own, found = self._own(resolved.used, part), self.named(point, resolved.used, part)
        name = getattr(point.config, part).prompts or own
        if name and name != own:
            self._fits(point, resolved, part, name)
        return found

    def named(self, point: GridPoint, used: UsedBackbone | None, part: str) -> Prompts:
        """The same where nothing need fit the prompts; a row without a backbone names its set."""
        from distillbench.data.prompts import find_prompts, prompt_file, prompts_folder

        name = getattr(point.config, part).prompts or self._own(used, part)
        file = prompt_file(name)
        if not name:
            mark, _ = locate(point.tree, ("backbone",))
            what = f"backbone {used.alias!r}" if used is not None else "a row without a backbone"
            self.problems.add(mark, f"{what} has no prompt set of its own; set {part}.prompts")
        elif name not in self._prompts:
            self._prompts[name] = ""
            try:
                found = find_prompts(name)
            except BadInput as error:
                there = not file or any(map(os.path.exists, (file, file.rpartition(":")[0])))
                mark, _ = locate(point.tree, (part, "prompts"))
                where = "" if there else looked_in(name, mark)
                for line in error.line.splitlines():
                    self._problem(point, part, "prompts", f"{line}{where}")
            else:
                self._prompts[name] = found.sha256 if found else f"missing:{name}"
                self._found |= {name: found} if found else {}
                self._describe(point, name, found, prompts_folder(name))
        return Prompts(self._prompts.get(name, ""), file or name, name)

    def content(self, prompts: Prompts) -> PromptSet | None:
        """The prompts of a set; None where it is not on this disk, or has problems."""
        return self._found.get(prompts.name)

    @staticmethod
    def _own(used: UsedBackbone | None, part: str) -> str:
        if used is None:
            return ""
        return used.backbone.train_prompts if part == "data" else used.backbone.eval_prompts

    def _fits(self, point: GridPoint, resolved: Resolved, part: str, name: str) -> None:
        """Whether the backbone knows what to make of the prompts, and reads all of them."""
        latents = part == "data" and "latents" in resolved.method.needs
        asked = resolved.used.alias, name, latents
        if asked in self._fitted or name not in self._found:
            return
        self._fitted.add(asked)
        prompts, backbone = self._found[name].prompts, resolved.used.backbone
        try:
            backbone.check_prompts(prompts, latents=latents)
        except BadInput as error:
            self._problem(point, part, "prompts", f"{name}: {error.line}")
        if cut := backbone.cut_prompts(prompts):
            what = f"{name}: {cut} of {len(prompts)} prompts are longer than the text encoder of "
            self._note(point, "prompts", f"{what}{resolved.used.alias} reads, and cut there")

    def _describe(self, point: GridPoint, name: str, found: PromptSet | None, folder: Path) -> None:
        if found is None:
            also = f"; {Path(name).absolute()} here is no set" if Path(name).exists() else ""
            what = f"prompt set {name!r} is not on this disk; a run needs it in {folder}{also}"
            self.notes.append(what)
        elif found.unread:
            self._unread(point, "prompts", name, found.unread)

    # ---- telling ------------------------------------------------------------------------

    def _unread(self, point: GridPoint, key: str, file: str, names: tuple[str, ...]) -> None:
        shown = ", ".join(map(ascii, names[:8])) + (", ..." if len(names) > 8 else "")
        self._note(point, key, f"{file}: these fields are not read: {shown}")

    def _note(self, point: GridPoint, key: str, what: str) -> None:
        if f"{key}: {what}" not in self.notes:
            self.notes.append(f"{key}: {what}")

    def _problem(self, point: GridPoint, part: str, key: str, what: str) -> None:
        self.problems.add(locate(point.tree, (part, key))[0], what)
