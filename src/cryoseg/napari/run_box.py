"""The part of the panel that runs commands of cryoseg."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
)

from cryoseg.config.pick import PICK_SUFFIXES
from cryoseg.errors import CryosegError
from cryoseg.io.images.volumes import known_suffix
from cryoseg.io.inputs import stem
from cryoseg.napari.layers import kind_of, path_of
from cryoseg.napari.process import CryosegProcess, default_command

if TYPE_CHECKING:
    import napari

# Options with which each command begins.
COMMANDS = {"segment": "--post-process --store-logits", "pick": "", "postprocess": ""}
LOG_LINES = 1000


class RunBox(QGroupBox):
    """Run `segment`, `pick` or `postprocess` on the file of a layer, and open the outputs.

    Attributes
    ----------
    threshold_of
        Function that returns the logit threshold chosen for a layer, or None.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__("Run")
        self._viewer = viewer
        self.threshold_of: Callable[[Layer], float | None] = lambda layer: None
        self.process = CryosegProcess(self)
        self.outputs: list[Path] = []
        self.program = QLineEdit(default_command())
        self.program.setToolTip("The command that starts cryoseg, such as that of another environment")
        self.command = QComboBox()
        self.command.addItems(list(COMMANDS))
        self.input = QComboBox()
        self.folder = QLineEdit()
        self.folder.setPlaceholderText("cryoseg, beside the input")
        self.model = QLineEdit()
        self.model.setPlaceholderText("default of the command")
        self.options = QLineEdit(COMMANDS["segment"])
        self.options.setToolTip("Further options, as on the command line")
        self.run = button("Run", self.start, "Start the command in a process of its own")
        self.stop = button("Stop", self.process.stop, "Stop the command; finished outputs are kept")
        self.progress = QProgressBar()
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(LOG_LINES)
        self.log.setMinimumHeight(80)
        form = QFormLayout(self)
        for label, field in (
            ("Program", self.program),
            ("Command", self.command),
            ("Input", self.input),
            ("Output folder", _row(self.folder, button("...", self._ask_folder, "Choose a folder"))),
            ("Model", self.model),
            ("Options", self.options),
        ):
            form.addRow(label, field)
        form.addRow(_row(self.run, self.stop))
        form.addRow(self.progress)
        form.addRow(self.log)
        self.command.currentTextChanged.connect(self._chose_command)
        self.process.reported.connect(self._show_event)
        self.process.printed.connect(self.log.appendPlainText)
        self.process.ended.connect(self._ended)
        self.stop.setEnabled(False)

    def list_layers(self) -> None:
        """Offer the layers with a file on which the command works."""
        is_filter = self.command.currentText() == "postprocess"
        fill(self.input, [one for one in self._viewer.layers if path_of(one) and _suits(one, is_filter)])

    def arguments(self) -> list[str]:
        """Return the arguments of the command.

        Raises
        ------
        ValueError
            If no input is chosen, or the options have an open quote.
        """
        layer: Any = self.input.currentData()
        path = None if layer is None else path_of(layer)
        if path is None:
            raise ValueError("Open a tomogram or micrograph, and choose it as the input.")
        command = self.command.currentText()
        found = [command, str(path), "-o", self.folder.text() or str(path.parent / "cryoseg")]
        if self.model.text() and command != "postprocess":
            found += ["--model", self.model.text()]
        threshold = self.threshold_of(layer) if command == "postprocess" else None
        if threshold is not None:
            found.append(f"--logit-threshold={threshold:g}")
        return found + shlex.split(self.options.text())

    def start(self) -> None:
        """Start the command."""
        try:
            arguments = self.arguments()
        except ValueError as error:
            show_error(str(error))
            return
        self.outputs = []
        self.log.appendPlainText(f"cryoseg {shlex.join(arguments)}")
        self.progress.setRange(0, 0)  # The bar shows no progress until the first event.
        self.run.setEnabled(False)
        self.stop.setEnabled(True)
        self.process.start(self.program.text(), arguments)

    def _chose_command(self, command: str) -> None:
        self.options.setText(COMMANDS[command])
        self.list_layers()

    def _ask_folder(self) -> None:
        if folder := QFileDialog.getExistingDirectory(self, "Output folder"):
            self.folder.setText(folder)

    def _show_event(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "progress":
                self.progress.setRange(0, event["total"])
                self.progress.setValue(event["done"])
                self.progress.setFormat(
                    f"{event['stage']}: {event['done']} of {event['total']} {event['unit']}"
                )
            case "row":
                self.outputs += [Path(path) for path in event["outputs"][:-1]]  # The last one is the record.
                columns = ", ".join(f"{name} {value}" for name, value in event["columns"].items())
                self.log.appendPlainText(f"{event['name']}: {event['status']} {event['message'] or columns}")
            case _:
                self.log.appendPlainText(event["text"])

    def _ended(self, status: int) -> None:
        self.progress.setRange(0, 1)
        self.progress.setValue(int(status == 0))
        self.progress.setFormat("finished" if status == 0 else f"ended with exit status {status}")
        self.run.setEnabled(True)
        self.stop.setEnabled(False)
        for path in shown_outputs(self.outputs):
            for layer in [one for one in self._viewer.layers if path_of(one) == path.absolute()]:
                self._viewer.layers.remove(layer)
            try:
                self._viewer.open(path, plugin="cryoseg")
            except CryosegError as error:
                show_error(str(error))


def shown_outputs(paths: list[Path]) -> list[Path]:
    """Return the outputs to open: logits, the final mask, and the first coordinate file."""
    volumes = [path for path in paths if known_suffix(path) and path.exists()]
    logits, filtered, masks = (
        [path for path in volumes if stem(path).endswith(ending)]
        for ending in ("_logits", "_post_processed_mask", "_mask")
    )
    picks = [path for path in paths if path.suffix in PICK_SUFFIXES and path.exists()]
    return [*logits, *(filtered or masks), *picks[:1]]


def button(text: str, action: Callable[[], Any], tip: str) -> QPushButton:
    """Return a button with a tool tip."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda: action())
    return made


def fill(box: QComboBox, layers: list[Any]) -> None:
    """Offer layers in a list, and keep the chosen one."""
    chosen = box.currentData()
    if [box.itemData(index) for index in range(box.count())] == layers:
        return
    box.blockSignals(True)
    box.clear()
    for layer in layers:
        box.addItem(layer.name, layer)
    box.setCurrentIndex(layers.index(chosen) if chosen in layers else len(layers) - 1)
    box.blockSignals(False)
    if box.currentData() is not chosen:
        box.currentIndexChanged.emit(box.currentIndex())


def _row(*widgets: Any) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


def _suits(layer: Layer, is_filter: bool) -> bool:
    """Whether a command works on the file of a layer: `postprocess` on logits and masks, others on images."""
    if is_filter:
        return kind_of(layer) == "logits" or isinstance(layer, Labels)
    return isinstance(layer, Image) and kind_of(layer) != "logits"
