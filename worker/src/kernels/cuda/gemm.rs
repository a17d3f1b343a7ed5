//! Matrix products by cuBLASLt, with what follows a product done in the same kernel.
//!
//! The algorithm is the library's first suggestion for the sizes: a function of the sizes and the
//! library alone, never of a measurement, so that the same batch gives the same bits.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cublaslt::result::{self as lt, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr as _};
use candle_core::{DType, Error, Result, bail};

use super::{Gpu, driver, lock};

/// What is done to a product before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// A bias is added.
    Bias,
    /// A bias is added and GELU, the tanh approximation, applied.
    BiasGelu,
}

/// `y = epilogue(x Wᵀ) (+ y)`: x is `[rows, input]`, W `[output, input]`, y `[rows, output]`, all without
/// gaps; the sum is in f32.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// The type of x, W, the bias and y.
    pub dtype: DType,
    /// Rows of x.
    pub rows: usize,
    /// Columns of x.
    pub input: usize,
    /// Columns of y.
    pub output: usize,
    /// What follows.
    pub epilogue: Epilogue,
    /// Whether y is added to rather than set.
    pub accumulate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(DType, usize, usize, usize, Epilogue, bool);

/// What cuBLASLt needs to run a product of given sizes.
struct Recipe {
    description: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Drop for Recipe {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: made by `recipe`, destroyed once.
        unsafe {
            for layout in [self.weight, self.x, self.y] {
                let _ = lt::destroy_matrix_layout(layout);
            }
            let _ = lt::destroy_matmul_desc(self.description);
        }
    }
}

/// The library's handle, its workspace, and the recipes made so far.
pub struct Products {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    recipes: HashMap<Key, Recipe>,
}

// SAFETY: the handle and the recipes are used behind a lock, and cuBLASLt allows that from any thread.
#[allow(unsafe_code)]
unsafe impl Send for Products {}

/// Bytes of workspace, as NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;
/// Recipes kept: each batch has rows of its own.
const RECIPES_AT_MOST: usize = 256;

fn blas(error: CublasError) -> Error {
    Error::Cuda(Box::new(error))
}

impl Products {
    #[allow(unsafe_code)]
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        // SAFETY: scratch memory, written by the library before it reads it.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE) }.map_err(driver)?;
        Ok(Self { handle: lt::create_handle().map_err(blas)?, workspace, recipes: HashMap::new() })
    }

    /// The recipe of a product. Column-major, as the library sees it: yᵀ = W x, where W lies transposed.
    #[allow(unsafe_code)]
    fn recipe(&mut self, product: &Product) -> Result<&Recipe> {
        let Product { dtype, rows, input, output, epilogue, accumulate } = *product;
        let key = Key(dtype, rows, input, output, epilogue, accumulate);
        if self.recipes.len() >= RECIPES_AT_MOST && !self.recipes.contains_key(&key) {
            self.recipes.clear();
        }
        if !self.recipes.contains_key(&key) {
            let recipe = self.make(product)?;
            self.recipes.insert(key, recipe);
        }
        Ok(&self.recipes[&key])
    }

    #[allow(unsafe_code)]
    fn make(&self, product: &Product) -> Result<Recipe> {
        let Product { dtype, rows, input, output, .. } = *product;
        let element = match dtype {
            DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
            DType::F32 => sys::cudaDataType_t::CUDA_R_32F,
            other => bail!("no product in {other:?}"),
        };
        let (rows, input, output) = (rows as u64, input as u64, output as u64);
        let description = lt::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType_t::CUDA_R_32F,
        )
        .map_err(blas)?;
        let layout =
            |rows, columns| lt::create_matrix_layout(element, rows, columns, rows as i64).map_err(blas);
        let (weight, x, y) = (layout(input, output)?, layout(input, rows)?, layout(output, rows)?);
        let transposed: i32 = 1;
        let epilogue = match product.epilogue {
            Epilogue::None => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
            Epilogue::Bias => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::BiasGelu => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
        };
        let preference = lt::create_matmul_pref().map_err(blas)?;
        // SAFETY: each attribute is read at once, from a value of the type it has.
        let algorithm = unsafe {
            set(description, sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, &transposed)?;
            set(description, sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            lt::set_matmul_pref_attribute(
                preference,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const WORKSPACE_SIZE).cast(),
                size_of::<usize>(),
            )
            .map_err(blas)?;
            let found = lt::get_matmul_algo_heuristic(self.handle, description, weight, x, y, y, preference);
            let _ = lt::destroy_matmul_pref(preference);
            found.map_err(blas)?.algo
        };
        Ok(Recipe { description, weight, x, y, algorithm })
    }
}

static WORKSPACE_SIZE: usize = WORKSPACE;

/// Sets an attribute of a description.
///
/// # Safety
/// `value` has the type of the attribute.
#[allow(unsafe_code)]
unsafe fn set<T>(
    description: sys::cublasLtMatmulDesc_t,
    attribute: sys::cublasLtMatmulDescAttributes_t,
    value: &T,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        lt::set_matmul_desc_attribute(
            description,
            attribute,
            std::ptr::from_ref(value).cast(),
            size_of::<T>(),
        )
    }
    .map_err(blas)
}

impl Gpu {
    /// Runs a product on addresses of the device. The caller answers for them: they hold what
    /// [`Product`] says.
    #[allow(unsafe_code)]
    pub fn multiply(&self, product: &Product, x: u64, weight: u64, bias: Option<u64>, y: u64) -> Result<()> {
        if product.rows == 0 {
            return Ok(());
        }
        let name = || {
            let Product { rows, input, output, .. } = product;
            format!("product {input} to {output} of {} rows", rows.next_power_of_two())
        };
        let mut products = lock(&self.products);
        let products = &mut *products;
        let handle = products.handle;
        let workspace = products.workspace.device_ptr(self.stream()).0;
        let recipe = products.recipe(product)?;
        let (one, into) = (1.0f32, if product.accumulate { 1.0f32 } else { 0.0 });
        self.timed(name, || {
            // SAFETY: the sizes are the recipe's, the addresses the caller's promise; the bias attribute
            // takes an address.
            unsafe {
                if let Some(bias) = bias {
                    let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
                    set(recipe.description, attribute, &bias)?;
                }
                lt::matmul(
                    handle,
                    recipe.description,
                    (&raw const one).cast(),
                    (&raw const into).cast(),
                    weight as *const c_void,
                    recipe.weight,
                    x as *const c_void,
                    recipe.x,
                    y as *const c_void,
                    recipe.y,
                    y as *mut c_void,
                    recipe.y,
                    &raw const recipe.algorithm,
                    workspace as *mut c_void,
                    WORKSPACE,
                    self.stream().cu_stream().cast(),
                )
            }
            .map_err(blas)
        })
    }
}
