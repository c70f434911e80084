//! The inner loops in plain Rust: on any processor, and the reference of the others.

pub use super::super::points::{
    gradient as gradient_transform, input as input_transform, input_rows, output as output_transform, split,
};
use super::{DOT_COLUMNS, DOT_ROWS, LANES, ROWS};

pub unsafe fn tile(k: usize, a: *const f32, b: *const f32, out: *mut f32, stride: usize, start: *const f32) {
    // SAFETY: the lengths are the caller's promise.
    unsafe {
        let mut sums = [[0f32; LANES]; ROWS];
        for (r, row) in sums.iter_mut().enumerate() {
            for (l, sum) in row.iter_mut().enumerate() {
                *sum = if start.is_null() { *out.add(r * stride + l) } else { *start.add(r) };
            }
        }
        for i in 0..k {
            let lanes = &*b.add(i * LANES).cast::<[f32; LANES]>();
            for (r, row) in sums.iter_mut().enumerate() {
                let weight = *a.add(i * ROWS + r);
                for (sum, x) in row.iter_mut().zip(lanes) {
                    *sum += weight * x;
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (l, sum) in row.iter().enumerate() {
                *out.add(r * stride + l) = *sum;
            }
        }
    }
}

pub unsafe fn dots(
    n: usize,
    rows: [*const f32; DOT_ROWS],
    columns: [*const f32; DOT_COLUMNS],
    sums: &mut [f32; 12],
) {
    // Eight partial sums, as the vector kernels have them: one long sum in f32 would lose more.
    let mut parts = [[0f32; 8]; 12];
    for p in 0..n {
        for (r, row) in rows.iter().enumerate() {
            // SAFETY: `p` is below `n`, and the caller promises `n` values of each row.
            let g = unsafe { *row.add(p) };
            for (c, column) in columns.iter().enumerate() {
                // SAFETY: `p` is below `n`, and the caller promises `n` values of each column.
                parts[DOT_COLUMNS * r + c][p % 8] += g * unsafe { *column.add(p) };
            }
        }
    }
    for (sum, parts) in sums.iter_mut().zip(parts) {
        *sum += parts.iter().sum::<f32>();
    }
}
