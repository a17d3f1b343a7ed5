//! Compiles the kernels with nvcc where the feature `cuda` asks for them: each `.cu` file to PTX for
//! compute capability 8.0, which the driver compiles for the card at hand.

use std::path::{Path, PathBuf};
use std::process::Command;

const KERNELS: &str = "src/kernels/cuda";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={KERNELS}");
    for variable in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let nvcc = nvcc();
    for source in ["activation", "attention", "norm", "rope", "rows"] {
        compile(
            &nvcc,
            &Path::new(KERNELS).join(source).with_extension("cu"),
            &out.join(source).with_extension("ptx"),
        );
    }
}

/// `NVCC`, else the one of `CUDA_HOME` or `CUDA_PATH`, else the one on the path.
fn nvcc() -> PathBuf {
    let home = |variable| std::env::var_os(variable).map(|home| PathBuf::from(home).join("bin/nvcc"));
    std::env::var_os("NVCC")
        .map(PathBuf::from)
        .or_else(|| home("CUDA_HOME"))
        .or_else(|| home("CUDA_PATH"))
        .filter(|nvcc| nvcc.is_file())
        .unwrap_or_else(|| PathBuf::from("nvcc"))
}

fn compile(nvcc: &Path, source: &Path, ptx: &Path) {
    let status = Command::new(nvcc)
        .args(["-ptx", "-arch=compute_80", "-O3", "-std=c++17", "-o"])
        .arg(ptx)
        .arg(source)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{} failed on {} ({status})", nvcc.display(), source.display()),
        Err(error) => panic!(
            "cannot run {}: {error}. The feature `cuda` needs nvcc of CUDA 13: put it on the path, or name \
             the toolkit's folder in CUDA_HOME (README.md says how to get one without root)",
            nvcc.display()
        ),
    }
}
