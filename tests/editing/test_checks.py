"""Every check of an edit against a slow computation pixel by pixel, and what passes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from vseam_core.editing.checks import IDENTICAL_PSNR, check_edit, judge, measure_edit, seam, ssim_outside

HEIGHT, WIDTH = 24, 30


def noise(seed: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def mask_of(*parts: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for y0, y1, x0, x1 in parts:
        mask[y0:y1, x0:x1] = True
    return mask


MASK = mask_of((6, 15, 8, 20), (18, 20, 2, 5))


def luma(pixel: np.ndarray) -> float:
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


def slow_seam(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float:
    rises = []
    for y in range(HEIGHT):
        for x in range(WIDTH):
            for b, a in ((y + 1, x), (y, x + 1)):
                if b < HEIGHT and a < WIDTH and mask[y, x] != mask[b, a]:
                    old = abs(luma(before[y, x]) - luma(before[b, a]))
                    new = abs(luma(after[y, x]) - luma(after[b, a]))
                    rises.append(max(0.0, new - old))
    return sum(rises) / len(rises)


def slow_ssim_channel(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004 on one window, uniform weights, sample covariance."""
    x, y = first.astype(float).ravel(), second.astype(float).ravel()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance = np.cov(x, y)
    top = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
    return top / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2))


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    clean = noise(0)
    raw = np.clip(clean.astype(int) + np.random.default_rng(1).integers(-9, 10, clean.shape), 0, 255).astype(np.uint8)
    raw[MASK] = noise(2)[MASK]
    return clean, np.where(MASK[..., None], raw, clean), raw


def test_every_number_equals_the_slow_computation() -> None:
    clean, corrupt, raw = pictures()
    corrupt[0, 0, 1] ^= 1
    checks = measure_edit(*(Image.fromarray(array) for array in (clean, corrupt, raw)), MASK)
    changed = outside = inside = covered = 0
    squares = []
    for y, x in np.ndindex(MASK.shape):
        difference = max(abs(int(a) - int(b)) for a, b in zip(clean[y, x], corrupt[y, x], strict=True))
        if MASK[y, x]:
            inside, covered = inside + 1, covered + (difference > 8)
        else:
            changed += difference > 0
            outside += 1
            squares += [(int(a) - int(b)) ** 2 for a, b in zip(clean[y, x], raw[y, x], strict=True)]
    assert checks["mask_share"] == pytest.approx(inside / (inside + outside))
    assert checks["changed_inside"] == pytest.approx(covered / inside)
    assert checks["changed_outside"] == changed == 1
    assert checks["raw_psnr_outside"] == pytest.approx(10 * math.log10(255**2 / (sum(squares) / len(squares))))
    assert checks["seam"] == pytest.approx(slow_seam(clean, corrupt, MASK))


def test_structural_similarity_is_the_mean_over_windows_without_a_pixel_of_the_mask() -> None:
    pytest.importorskip("skimage", reason="needs the extra edit")
    clean, _, raw = pictures()
    values = []
    for y in range(3, HEIGHT - 3):
        for x in range(3, WIDTH - 3):
            window = (slice(y - 3, y + 4), slice(x - 3, x + 4))
            if not MASK[window].any():
                values += [slow_ssim_channel(clean[window][..., c], raw[window][..., c]) for c in range(3)]
    found = ssim_outside(clean.astype(float), raw.astype(float), MASK)
    assert len(values) > 30
    assert found == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_similarity_is_left_out_where_no_window_lies_outside_the_mask() -> None:
    clean = noise(0).astype(float)
    assert ssim_outside(clean, clean, mask_of((3, 22, 3, 28))) is None
    assert ssim_outside(clean[:5], clean[:5], np.zeros((5, WIDTH), dtype=bool)) is None


def test_equal_images_have_a_finite_psnr_and_no_seam() -> None:
    clean = Image.fromarray(noise(0))
    checks = measure_edit(clean, clean, clean, MASK)
    assert (checks["raw_psnr_outside"], checks["seam"], checks["changed_inside"]) == (IDENTICAL_PSNR, 0.0, 0.0)
    assert all(math.isfinite(value) for value in checks.values())


def test_a_seam_counts_new_steps_only() -> None:
    step = np.zeros((HEIGHT, WIDTH, 3))
    step[MASK] = 200.0
    flat = np.zeros_like(step)
    assert seam(flat, step, MASK) == pytest.approx(200.0)
    assert seam(step, step, MASK) == 0.0
    assert seam(step, flat, MASK) == 0.0
    assert seam(flat, step, np.ones_like(MASK)) == 0.0


def test_a_mask_of_the_whole_image_has_no_outside() -> None:
    clean, _, raw = pictures()
    checks = measure_edit(Image.fromarray(clean), Image.fromarray(raw), Image.fromarray(raw), np.ones_like(MASK))
    assert "raw_psnr_outside" not in checks
    assert judge(checks)[0] == "failed"


GOOD = {"mask_share": 0.2, "changed_inside": 0.9, "changed_outside": 0.0, "raw_psnr_outside": 28.0, "seam": 3.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mask_share": 0.81}, "the mask covers 81% of the image"),
        ({"changed_inside": 0.01}, "only 1.0% of the mask changed visibly"),
        ({"changed_outside": 3.0}, "3 pixels outside the mask changed"),
        ({"raw_psnr_outside": 19.9}, "the painter changed the rest of the image too (PSNR 19.9 dB)"),
        ({"seam": 30.5}, "the mask's edge shows"),
        ({"clip_margin_before": -0.02, "clip_margin_after": -0.02}, "CLIP does not see"),
        ({"flip_second": 0.0}, "the second model's answer does not change"),
    ],
)
def test_each_check_fails_an_edit_with_its_reason(change: dict[str, float], reason: str) -> None:
    assert judge(GOOD) == ("passed", "")
    verdict, found = judge({**GOOD, **change})
    assert verdict == "failed"
    assert reason in found


def test_the_traced_models_own_answer_decides_nothing() -> None:
    assert judge({**GOOD, "flip_model": 0.0}) == ("passed", "")


def test_a_control_need_not_show_a_new_concept() -> None:
    checks = {**GOOD, "clip_margin_before": 0.1, "clip_margin_after": 0.0, "flip_second": 0.0}
    assert judge(checks, "elsewhere") == ("passed", "")
    assert judge({**checks, "changed_inside": 0.0}, "repaint") == ("passed", "")
    assert judge({**checks, "changed_inside": 0.0}, "elsewhere")[0] == "failed"


def test_the_count_of_changed_pixels_follows_the_mask_where_there_is_one() -> None:
    clean, corrupt, _ = pictures()
    check = check_edit(Image.fromarray(clean), Image.fromarray(corrupt), [], MASK)
    changed = int((clean != corrupt).any(-1).sum())
    assert (check.changed_inside, check.changed_outside, check.region_share) == (changed, 0, pytest.approx(float(MASK.mean())))
