"""Panel in napari: run commands, set the threshold of logits, and save edited picks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Layer, Points
from napari.utils.colormaps import DirectLabelColormap
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from cryoseg.errors import CryosegError
from cryoseg.napari.layers import kind_of, path_of
from cryoseg.napari.points import mark_new, save_points
from cryoseg.napari.run_box import RunBox, button, fill
from cryoseg.pipelines.segment.saved import recorded_threshold

if TYPE_CHECKING:
    import napari

THRESHOLDS = (-10.0, 10.0)
STEP = 0.05
UPDATE_MILLISECONDS = 40
MASK_COLOR = "#26c6f9"


class Panel(QWidget):
    """The panel; napari makes it for its viewer."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.run_box = RunBox(viewer)
        self.threshold_box = ThresholdBox(viewer)
        self.picks_box = PicksBox(viewer)
        self.run_box.threshold_of = self.threshold_box.threshold_of
        layout = QVBoxLayout(self)
        for box in (self.run_box, self.threshold_box, self.picks_box):
            layout.addWidget(box)
        layout.addStretch()
        for event in ("inserted", "removed", "reordered"):
            getattr(viewer.layers.events, event).connect(self.list_layers)
        self.list_layers()

    def list_layers(self) -> None:
        """Offer the layers of the viewer in all lists."""
        for box in (self.run_box, self.threshold_box, self.picks_box):
            box.list_layers()


class ThresholdBox(QGroupBox):
    """A slider for the threshold of logits, which updates a mask at once."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__("Threshold of logits")
        self._viewer = viewer
        self.logits = QComboBox()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(round(THRESHOLDS[0] / STEP), round(THRESHOLDS[1] / STEP))
        self.value = QDoubleSpinBox()
        self.value.setRange(*THRESHOLDS)
        self.value.setSingleStep(STEP)
        self.marked = QLabel()
        row = QHBoxLayout()
        row.addWidget(self.slider)
        row.addWidget(self.value)
        form = QFormLayout(self)
        form.addRow("Logits", self.logits)
        form.addRow("Threshold", row)
        form.addRow("Marked", self.marked)
        self._timer = QTimer(self)  # One update follows many movements of the slider.
        self._timer.setSingleShot(True)
        self._timer.setInterval(UPDATE_MILLISECONDS)
        self._timer.timeout.connect(self.update_mask)
        self.slider.valueChanged.connect(lambda position: self.value.setValue(position * STEP))
        self.value.valueChanged.connect(self._moved)
        self.logits.currentIndexChanged.connect(self._chosen)

    def list_layers(self) -> None:
        """Offer the layers that hold logits."""
        fill(self.logits, [one for one in self._viewer.layers if kind_of(one) == "logits"])

    def threshold_of(self, layer: Layer) -> float | None:
        """Return the threshold of a layer; None if the slider belongs to another one."""
        return self.value.value() if layer is self.logits.currentData() else None

    def update_mask(self) -> None:
        """Threshold the logits and show the mask."""
        layer = self.logits.currentData()
        if layer is None:
            return
        name = f"{layer.name} mask"
        mask = next(
            (one for one in self._viewer.layers if one.name == name and isinstance(one, Labels)), None
        )
        if mask is None or mask.data.shape != layer.data.shape:
            mask = self._viewer.add_labels(
                np.zeros(layer.data.shape, np.uint8),
                name=name,
                scale=layer.scale,
                translate=layer.translate,
                units=layer.units,
                opacity=0.5,
                colormap=DirectLabelColormap(color_dict={1: MASK_COLOR, None: "transparent"}),
            )
        # `cryoseg postprocess` compares in the same way.
        np.greater(layer.data, np.float32(self.value.value()), out=mask.data.view(np.bool_))
        mask.refresh()
        self.marked.setText(f"{mask.data.mean(dtype=np.float64):.2%} of the volume")

    def _moved(self, value: float) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round(value / STEP))
        self.slider.blockSignals(False)
        self._timer.start()

    def _chosen(self) -> None:
        self.marked.clear()
        layer = self.logits.currentData()
        if layer is not None and (path := path_of(layer)) is not None:
            self.value.setValue(recorded_threshold(path)[0])
            self._timer.stop()  # The mask appears when the threshold is moved.


class PicksBox(QGroupBox):
    """Buttons that write edited points back to their file."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__("Picks")
        self._viewer = viewer
        self.points = QComboBox()
        row = QHBoxLayout()
        row.addWidget(button("Save", self.save, "Replace the file of the points, in its own format"))
        row.addWidget(button("Save as...", self.save_as, "Write the points to another file"))
        form = QFormLayout(self)
        form.addRow("Points", self.points)
        form.addRow(row)

    def list_layers(self) -> None:
        """Offer the points layers."""
        layers = [one for one in self._viewer.layers if isinstance(one, Points)]
        for layer in layers:
            layer.events.data.connect(mark_new)  # Connecting again does nothing.
        fill(self.points, layers)

    def save(self, path: Path | None = None) -> None:
        """Write the chosen points to a file; None replaces theirs."""
        layer = self.points.currentData()
        if layer is None:
            return
        try:
            written, count = save_points(layer, path)
        except CryosegError as error:
            show_error(str(error))
        else:
            show_info(f"{written}: {count} points")

    def save_as(self) -> None:
        """Ask for a name and write the chosen points."""
        name, _ = QFileDialog.getSaveFileName(self, "Save points")
        if name:
            self.save(Path(name))
