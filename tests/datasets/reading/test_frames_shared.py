"""Sequences of which train and val both have frames."""

from seg_datasets.reading.frames import frames_regex, shared_sequences

TRAIN = [f"0016E5_{number:05}" for number in range(0, 1200, 30)]
BLOCK = [f"0016E5_{number:05}" for number in range(1230, 1630, 30)]
OTHERS = [f"0006R0_f{number:05}" for number in range(0, 600, 30)]


def test_a_block_of_a_sequence_that_train_has_is_shared_although_no_frame_is_a_neighbor():
    assert frames_regex([*TRAIN, *OTHERS], BLOCK[1:]) is None
    assert shared_sequences([*TRAIN, *OTHERS], BLOCK[1:]) == ["0016E5_"]


def test_few_frames_and_other_sequences_are_not_shared():
    assert shared_sequences([*TRAIN, *OTHERS], BLOCK[:5]) == []
    assert shared_sequences(TRAIN, OTHERS) == []


def test_numbered_photos_are_no_sequences():
    photos = [f"photo_{number:04}" for number in range(100)]
    assert shared_sequences(photos[:60], photos[60:]) == []
