//! Every kernel against its twin, at the shapes of the real models, on the device at hand: what a worker
//! does before it trusts a stranger's machine.
//!
//! Inputs are pseudo-random and always the same. The device computes in the type checked, the twin on the
//! CPU in f32 from the same rounded inputs; they may part by the rounding of what is stored.

use candle_core::{DType, Device, Result, Tensor};

use super::activation::{gelu_erf, gelu_erf_twin, silu_mul, silu_mul_twin};
use super::attention::{Attention, HeadColumns, Mask, Segments, Sharing, attention, attention_twin};
use super::linear::{After, linear, linear_add, linear_add_twin, linear_twin};
use super::norm::{layer_norm, layer_norm_twin, rms_norm, rms_norm_twin};
use super::rope::{Heads, Turns, norm_rope, norm_rope_twin, rope, rope_twin};
use super::rows::{
    Taps, add_interpolated, add_interpolated_twin, add_rows, add_rows_twin, gather_rows, gather_rows_twin,
    patch_rows, patch_rows_twin,
};
use super::table::Table;
use crate::embedder::PreparedImage;

/// How far one kernel is from its twin.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The kernel and its shape.
    pub name: String,
    /// `|kernel - twin| / |twin|` over all values, in the Euclidean norm.
    pub distance: f64,
    /// What is allowed.
    pub allowed: f64,
}

impl Finding {
    /// Whether the kernel may be trusted. A distance that is no number may not.
    pub fn passed(&self) -> bool {
        self.distance <= self.allowed
    }
}

/// Allowed in bf16: a stored value has 8 bits, a kernel rounds up to four times.
const ALLOWED_BF16: f64 = 8e-3;
/// Allowed in f32: sums of up to 12,288 products in another order.
const ALLOWED_F32: f64 = 5e-6;

/// Checks all kernels in a type.
pub fn check(dtype: DType, device: &Device) -> Result<Vec<Finding>> {
    let allowed = if dtype == DType::F32 { ALLOWED_F32 } else { ALLOWED_BF16 };
    let mut bench = Bench { dtype, device: device.clone(), allowed, findings: Vec::new() };
    for size in [4096, 2048, 1152, 1024, 4608] {
        bench.norms(size)?;
    }
    bench.products()?;
    bench.ropes()?;
    bench.activations()?;
    bench.rows()?;
    bench.attentions()?;
    Ok(bench.findings)
}

/// Where the two computations meet.
struct Bench {
    dtype: DType,
    device: Device,
    allowed: f64,
    findings: Vec<Finding>,
}

/// A tensor on the device, and the same values in f32 on the CPU.
struct Twins {
    device: Tensor,
    host: Tensor,
}

impl Bench {
    /// Values between `-scale` and `scale`.
    fn random(&self, seed: u64, shape: (usize, usize), scale: f32) -> Result<Twins> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let values: Vec<f32> = (0..shape.0 * shape.1)
            .map(|_| {
                // xorshift64*: Vigna, 2016.
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
                scale * (bits as f32 / (1 << 23) as f32 - 1.0)
            })
            .collect();
        let rounded = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?;
        Ok(Twins { device: rounded.to_device(&self.device)?, host: rounded.to_dtype(DType::F32)? })
    }

    fn vector(&self, seed: u64, size: usize, around: f64) -> Result<Twins> {
        let row = self.random(seed, (1, size), 0.5)?;
        let shift = |tensor: &Tensor| (tensor.flatten_all()? + around)?.to_dtype(self.dtype);
        let host = shift(&row.host)?;
        Ok(Twins { device: host.to_device(&self.device)?, host: host.to_dtype(DType::F32)? })
    }

    fn compare(&mut self, name: String, kernel: &Tensor, twin: &Tensor) -> Result<()> {
        let kernel = kernel.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let twin = twin.to_dtype(DType::F64)?;
        let norm = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f64>().map(f64::sqrt);
        let distance = norm(&(kernel - &twin)?)? / norm(&twin)?;
        self.findings.push(Finding { name, distance, allowed: self.allowed });
        Ok(())
    }

    fn norms(&mut self, size: usize) -> Result<()> {
        let x = self.random(1, (131, size), 2.0)?;
        let (w, b) = (self.vector(2, size, 1.0)?, self.vector(3, size, 0.0)?);
        let (kernel, twin) = (rms_norm(&x.device, &w.device, 1e-6)?, rms_norm_twin(&x.host, &w.host, 1e-6)?);
        self.compare(format!("rms_norm of {size}"), &kernel, &twin)?;
        let kernel = layer_norm(&x.device, &w.device, &b.device, 1e-6)?;
        let twin = layer_norm_twin(&x.host, &w.host, &b.host, 1e-6)?;
        self.compare(format!("layer_norm of {size}"), &kernel, &twin)
    }

    fn products(&mut self) -> Result<()> {
        for (rows, input, output) in [(77, 4096, 6144), (77, 1152, 4304), (129, 12288, 4096), (5, 1536, 1152)]
        {
            let name = |what: &str| format!("{what} {input} to {output}");
            let (x, w) = (self.random(4, (rows, input), 1.0)?, self.random(5, (output, input), 0.1)?);
            let (b, r) = (self.vector(6, output, 0.0)?, self.random(7, (rows, output), 4.0)?);
            let kernel = linear(&x.device, &w.device, After::Nothing)?;
            self.compare(name("linear"), &kernel, &linear_twin(&x.host, &w.host, After::Nothing)?)?;
            let kernel = linear(&x.device, &w.device, After::Bias(&b.device))?;
            self.compare(
                name("linear, bias"),
                &kernel,
                &linear_twin(&x.host, &w.host, After::Bias(&b.host))?,
            )?;
            let kernel = linear(&x.device, &w.device, After::BiasGelu(&b.device))?;
            let twin = linear_twin(&x.host, &w.host, After::BiasGelu(&b.host))?;
            self.compare(name("linear, bias, gelu"), &kernel, &twin)?;
            let kernel = linear_add(r.device.copy()?, &x.device, &w.device, None)?;
            self.compare(
                name("linear, residual"),
                &kernel,
                &linear_add_twin(&r.host, &x.host, &w.host, None)?,
            )?;
            let kernel = linear_add(r.device.copy()?, &x.device, &w.device, Some(&b.device))?;
            let twin = linear_add_twin(&r.host, &x.host, &w.host, Some(&b.host))?;
            self.compare(name("linear, bias, residual"), &kernel, &twin)?;
        }
        Ok(())
    }

    fn turns(&self, rows: usize, half: usize) -> Result<(Turns, Turns)> {
        let angles = self.random(8, (rows, half), 100.0)?.host;
        let round = |x: Tensor| x.to_dtype(self.dtype);
        let (cos, sin) = (round(angles.cos()?)?, round(angles.sin()?)?);
        let device = Turns { cos: cos.to_device(&self.device)?, sin: sin.to_device(&self.device)? };
        Ok((device, Turns { cos: cos.to_dtype(DType::F32)?, sin: sin.to_dtype(DType::F32)? }))
    }

    fn ropes(&mut self) -> Result<()> {
        for (queries, keys, values, size) in
            [(32, 8, 8, 128), (16, 8, 8, 128), (0, 8, 8, 128), (32, 0, 0, 128), (4, 2, 2, 32)]
        {
            let x = self.random(9, (67, (queries + keys + values) * size), 2.0)?;
            let (wq, wk) = (self.vector(10, size, 1.0)?, self.vector(11, size, 1.0)?);
            let (turns, turns_twin) = self.turns(67, size / 2)?;
            let heads = Heads { queries, keys, size };
            let kernel = norm_rope(x.device.copy()?, heads, &wq.device, &wk.device, 1e-6, &turns)?;
            let twin = norm_rope_twin(&x.host, heads, &wq.host, &wk.host, 1e-6, &turns_twin)?;
            self.compare(format!("norm_rope of {queries} + {keys} heads of {size}"), &kernel, &twin)?;
        }
        for size in [72, 64, 16] {
            let x = self.random(12, (67, 48 * size), 2.0)?;
            let (turns, turns_twin) = self.turns(67, size / 2)?;
            let kernel = rope(x.device.copy()?, 32, size, &turns)?;
            self.compare(
                format!("rope of heads of {size}"),
                &kernel,
                &rope_twin(&x.host, 32, size, &turns_twin)?,
            )?;
        }
        Ok(())
    }

    fn activations(&mut self) -> Result<()> {
        for size in [12288, 6144] {
            let x = self.random(13, (33, 2 * size), 6.0)?;
            self.compare(format!("silu_mul of {size}"), &silu_mul(&x.device)?, &silu_mul_twin(&x.host)?)?;
        }
        let x = self.random(14, (33, 4608), 6.0)?;
        self.compare("gelu_erf".to_owned(), &gelu_erf(x.device.copy()?)?, &gelu_erf_twin(&x.host)?)
    }

    fn rows(&mut self) -> Result<()> {
        let (table, extra) = (self.random(15, (97, 4096), 2.0)?, self.random(16, (31, 4096), 2.0)?);
        let both = |values: Vec<i32>| {
            Ok::<_, candle_core::Error>((
                Table::new(values.clone(), &self.device)?,
                Table::new(values, &Device::Cpu)?,
            ))
        };
        let source = (0..120).map(|row| if row % 3 == 0 { -(row % 31) - 1 } else { row * 7 % 97 }).collect();
        let (source, source_twin) = both(source)?;
        let places = (0..31).map(|row| row * 3).collect();
        let (places, places_twin) = both(places)?;
        let taps: Vec<i32> = (0..97 * 4).map(|tap| tap * 5 % 31).collect();
        let (taps, taps_twin) = both(taps)?;
        let weights: Vec<f32> = (0..97 * 4).map(|tap| (tap % 9) as f32 / 8.0).collect();
        let taps = Taps { rows: taps, weights: Table::new(weights.clone(), &self.device)? };
        let taps_twin = Taps { rows: taps_twin, weights: Table::new(weights, &Device::Cpu)? };
        let kernel = gather_rows(&table.device, Some(&extra.device), &source)?;
        self.compare(
            "gather_rows".to_owned(),
            &kernel,
            &gather_rows_twin(&table.host, Some(&extra.host), &source_twin)?,
        )?;
        let kernel = add_rows(table.device.copy()?, &extra.device, &places)?;
        self.compare(
            "add_rows".to_owned(),
            &kernel,
            &add_rows_twin(&table.host, &extra.host, &places_twin)?,
        )?;
        let kernel = add_interpolated(table.device.copy()?, &extra.device, &taps)?;
        self.compare(
            "add_interpolated".to_owned(),
            &kernel,
            &add_interpolated_twin(&table.host, &extra.host, &taps_twin)?,
        )?;
        let picture = |height: u32, width: u32| PreparedImage {
            grid_height: height,
            grid_width: width,
            pixels: (0..height * width * 768).map(|byte| (byte * 31 % 251) as u8).collect(),
        };
        let (first, second) = (picture(4, 6), picture(2, 10));
        let kernel = patch_rows(&[&first, &second], self.dtype, &self.device)?;
        self.compare(
            "patch_rows".to_owned(),
            &kernel,
            &patch_rows_twin(&[&first, &second], DType::F32, &Device::Cpu)?,
        )
    }

    fn attentions(&mut self) -> Result<()> {
        let lengths = [1, 63, 64, 65, 129, 300];
        for (heads, kv_heads, size, mask) in [
            (32, 8, 128, Mask::Causal),
            (16, 8, 128, Mask::Causal),
            (16, 16, 72, Mask::Full),
            (16, 16, 64, Mask::Full),
            (4, 2, 32, Mask::Causal),
            (4, 4, 16, Mask::Full),
        ] {
            let x = self.random(17, (lengths.iter().sum(), (heads + 2 * kv_heads) * size), 3.0)?;
            let input = |matrix| {
                let columns = |first: usize, heads| HeadColumns { matrix, first: first * size, heads };
                Attention {
                    q: columns(0, heads),
                    k: columns(heads, kv_heads),
                    v: columns(heads + kv_heads, kv_heads),
                    size,
                }
            };
            let sharing = Sharing::of(heads, kv_heads);
            let kernel =
                attention(&input(&x.device), &Segments::new(&lengths, mask, sharing, &self.device)?)?;
            let twin =
                attention_twin(&input(&x.host), &Segments::new(&lengths, mask, sharing, &Device::Cpu)?)?;
            self.compare(format!("attention of {heads} heads of {size}, {mask:?}"), &kernel, &twin)?;
        }
        let (q, kv) = (
            self.random(18, (lengths.len(), 4096), 3.0)?,
            self.random(19, (lengths.iter().sum(), 2048), 3.0)?,
        );
        let input = |q, kv| Attention {
            q: HeadColumns { matrix: q, first: 0, heads: 32 },
            k: HeadColumns { matrix: kv, first: 0, heads: 8 },
            v: HeadColumns { matrix: kv, first: 1024, heads: 8 },
            size: 128,
        };
        let kernel = attention(
            &input(&q.device, &kv.device),
            &Segments::last_queries(&lengths, Sharing::Even, &self.device)?,
        )?;
        let twin = attention_twin(
            &input(&q.host, &kv.host),
            &Segments::last_queries(&lengths, Sharing::Even, &Device::Cpu)?,
        )?;
        self.compare("attention of the last queries".to_owned(), &kernel, &twin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_that_is_no_number_fails() {
        let finding = |distance| Finding { name: String::new(), distance, allowed: 1e-3 };
        assert!(finding(0.0).passed());
        assert!(!finding(2e-3).passed());
        assert!(!finding(f64::NAN).passed());
    }

    #[test]
    fn rounding_to_bf16_stays_within_what_is_allowed() {
        // On a CPU the twin computes on both sides: in bf16, and in f32 from the same inputs.
        for finding in check(DType::BF16, &Device::Cpu).unwrap() {
            assert!(finding.passed(), "{}: {:.1e}", finding.name, finding.distance);
            let copies = finding.name == "gather_rows";
            assert!(copies || finding.distance > 1e-5, "{} compares nothing", finding.name);
        }
    }
}
