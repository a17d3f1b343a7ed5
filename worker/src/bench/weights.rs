//! Random weights by name: the same name and shape give the same values on every device.
//!
//! Every value is one that bf16 can hold, so that a model in f32 and one in bf16 have the same weights.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::{SimpleBackend, VarBuilder};
use half::bf16;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use rayon::prelude::*;

/// Makes every tensor that is asked for.
pub struct RandomWeights;

/// Values that one generator makes.
const RUN: usize = 1 << 16;
/// Half the width of the uniform distribution with the deviation of a fresh model, 0.02.
const HALF_WIDTH: f32 = 0.034_641;

impl RandomWeights {
    /// As a source of variables.
    pub fn variables(dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(Self), dtype, device.clone())
    }
}

impl SimpleBackend for RandomWeights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let seed = hasher.finish();
        // The weight of a norm is a vector called `weight`: it lies around one.
        let around = if shape.rank() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
        let mut values = vec![bf16::ZERO; shape.elem_count()];
        values.par_chunks_mut(RUN).enumerate().for_each(|(run, values)| {
            let mut random = SmallRng::seed_from_u64(seed ^ run as u64);
            for value in values {
                *value = bf16::from_f32(around + HALF_WIDTH * (2.0 * random.random::<f32>() - 1.0));
            }
        });
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("the shape of {name} is not said")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
