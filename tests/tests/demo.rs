//! `coordinator demo` and `worker embed`: the first things a person tries.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use tests::npz;
use tests::program::Program;
use tests::s3::python;

#[test]
fn the_demo_makes_runs_and_verifies() {
    let working = tempfile::tempdir().unwrap();
    let finished = Program::coordinator(working.path()).args(["demo"]).output().expect(0);
    let out = working.path().join("embed-fleet-demo/embeddings.npz");
    let arrays = npz::read(&out);
    assert_eq!(arrays.ids.len(), 299, "300 items, one of which has nothing to embed");
    assert!(arrays.image_counts.contains(&2));
    let text = finished.stdout();
    assert!(text.contains("random") && text.contains("mean nothing"), "{text}");
    let script = "import numpy, sys; f = numpy.load(sys.argv[1], allow_pickle=False); \
                  n = numpy.linalg.norm(f['embeddings'], axis=1); assert abs(n - 1).max() < 1e-6; \
                  print(f['item_ids'].shape, f['embeddings'].dtype, f['image_counts'].dtype)";
    let numpy = Command::new(python()).args(["-c", script]).arg(&out).output().unwrap();
    if !numpy.status.success() && String::from_utf8_lossy(&numpy.stderr).contains("No module named 'numpy'") {
        eprintln!("skipped: no numpy");
    } else {
        assert!(numpy.status.success(), "{}", String::from_utf8_lossy(&numpy.stderr));
        assert_eq!(String::from_utf8_lossy(&numpy.stdout).trim(), "(299,) float32 int32");
    }

    let vector = Program::worker(working.path())
        .args([
            "embed",
            "--model",
            "embed-fleet-demo/model",
            "--text",
            "다음 그림을 보시오.",
            "--device",
            "cpu",
        ])
        .output()
        .expect(0);
    let vector: Vec<f32> = serde_json::from_str(&vector.stdout()).unwrap();
    assert_eq!(vector.len(), arrays.dim);
    let norm: f32 = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((norm - 1.0).abs() < 1e-6);
}
