//! Models from a hub, a store and a folder: the same files are the same model, and nothing unverified is used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::model::{
    HubId, HubProblem, HubSettings, LocalModel, ModelError, ModelRecord, ModelRef, Places, local_copy, push,
    resolve,
};
use shared::store::Store;
use tempfile::TempDir;
use tests::checkpoint;
use tests::hub::{COMMIT, SIGNATURE, StandInHub, is_large};

const REPOSITORY: &str = "Qwen/Qwen3-VL-Embedding-Tiny";
const SHARD: &str = "model-00002-of-00003.safetensors";

/// The tiny model in three shards, a hub that serves it, and an empty cache.
struct Scene {
    folder: TempDir,
    cache: TempDir,
    hub: StandInHub,
}

impl Scene {
    /// `None`, and a line that says so, where the reference model is not at hand.
    async fn new() -> Option<Self> {
        let Some(reference) = checkpoint::reference_model() else {
            println!("skipped: no reference model; set EMBED_FLEET_SHARED");
            return None;
        };
        let folder = tempfile::tempdir().expect("the scene is set");
        checkpoint::split(&reference, folder.path(), 3).expect("the scene is set");
        let hub = StandInHub::start(folder.path(), REPOSITORY).await.expect("the scene is set");
        Some(Self { folder, cache: tempfile::tempdir().expect("the scene is set"), hub })
    }

    fn places(&self, token: Option<&str>) -> Places {
        let hub = HubSettings {
            endpoint: self.hub.endpoint(),
            token: token.map(str::to_owned),
            cache: self.cache.path().to_owned(),
            pause: Duration::from_millis(1),
        };
        Places { hub, ..Places::default() }
    }

    async fn record(&self) -> ModelRecord {
        resolve(&named("main"), &self.places(None)).await.expect("the scene is set").record
    }

    /// Where the cache keeps a file's content while it grows.
    fn partial(&self, record: &ModelRecord, name: &str) -> PathBuf {
        let file = record.files.iter().find(|file| file.name == name).expect("the scene is set");
        let blobs = self.cache.path().join("models--Qwen--Qwen3-VL-Embedding-Tiny/blobs");
        std::fs::create_dir_all(&blobs).expect("the scene is set");
        blobs.join(format!("{}.partial", file.sha256))
    }

    fn starts_of(&self, name: &str) -> Vec<Option<u64>> {
        let requests = self.hub.requests();
        requests.iter().filter(|r| r.path.starts_with(&format!("/cdn/{name}"))).map(|r| r.start).collect()
    }
}

fn named(revision: &str) -> ModelRef {
    ModelRef::Hub(HubId { repository: REPOSITORY.into(), revision: Some(revision.into()) })
}

fn folder_of(model: LocalModel) -> PathBuf {
    match model {
        LocalModel::Folder(folder) => folder,
        LocalModel::Hash(dimension) => panic!("hash:{dimension} is no folder"),
    }
}

fn assert_same_files(record: &ModelRecord, left: &Path, right: &Path) {
    for file in &record.files {
        let (left, right) = (std::fs::read(left.join(&file.name)), std::fs::read(right.join(&file.name)));
        assert!(left.expect("the scene is set") == right.expect("the scene is set"), "{} differs", file.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_model_has_its_folders_digest_without_its_weights() {
    let Some(scene) = Scene::new().await else { return };
    let places = scene.places(None);
    let from_hub = resolve(&named("main"), &places).await.unwrap();
    assert!(
        scene.hub.requests().iter().all(|request| !request.path.starts_with("/cdn/")),
        "weights were fetched"
    );
    let from_folder = resolve(&ModelRef::Folder(scene.folder.path().into()), &places).await.unwrap();
    assert_eq!(from_hub.record.digest, from_folder.record.digest);
    assert_eq!(from_hub.record.files, from_folder.record.files);
    assert_eq!(from_hub.record.files.len(), 8);
    assert_eq!((from_hub.dim, from_folder.dim), (64, 64));
    assert_eq!(from_hub.record.name, REPOSITORY);
    assert_eq!(from_hub.record.revision.as_deref(), Some(COMMIT));
    assert_eq!(from_folder.record.revision, None);
    for revision in [COMMIT, "refs/pr/1"] {
        assert_eq!(resolve(&named(revision), &places).await.unwrap(), from_hub);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_goes_on() {
    let Some(scene) = Scene::new().await else { return };
    let record = scene.record().await;
    scene.hub.break_once(SHARD, 100_000);
    scene.hub.break_once("config.json", 10);
    let folder = folder_of(local_copy(&record, None, &scene.places(None)).await.unwrap());
    assert_same_files(&record, &folder, scene.folder.path());
    let starts = scene.starts_of(SHARD);
    assert_eq!(starts.len(), 2, "{starts:?}");
    // What arrived before the break is kept, up to what the sockets swallowed.
    assert!(starts[1].is_some_and(|start| start > 0 && start <= 100_000), "{starts:?}");
    let again = resolve(&ModelRef::Folder(folder.clone()), &scene.places(None)).await.unwrap();
    assert_eq!(again.record.digest, record.digest);

    // The second time nothing is asked for, with or without a network.
    scene.hub.forget_requests();
    assert_eq!(folder_of(local_copy(&record, None, &scene.places(None)).await.unwrap()), folder);
    assert_eq!(scene.hub.requests(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_left_by_a_killed_process_is_completed() {
    let Some(scene) = Scene::new().await else { return };
    let record = scene.record().await;
    let whole = std::fs::read(scene.folder.path().join(SHARD)).unwrap();
    std::fs::write(scene.partial(&record, SHARD), &whole[..70_000]).unwrap();
    let folder = folder_of(local_copy(&record, None, &scene.places(None)).await.unwrap());
    assert_same_files(&record, &folder, scene.folder.path());
    assert_eq!(scene.starts_of(SHARD), [Some(70_000)]);
    assert!(!scene.partial(&record, SHARD).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_file_of_other_bytes_or_too_many_is_fetched_anew() {
    let Some(scene) = Scene::new().await else { return };
    let record = scene.record().await;
    std::fs::write(scene.partial(&record, SHARD), vec![1; 70_000]).unwrap();
    std::fs::write(scene.partial(&record, "config.json"), vec![1; 1_000_000]).unwrap();
    let folder = folder_of(local_copy(&record, None, &scene.places(None)).await.unwrap());
    assert_same_files(&record, &folder, scene.folder.path());
    assert_eq!(scene.starts_of(SHARD), [Some(70_000), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_starts_again() {
    let Some(scene) = Scene::new().await else { return };
    let record = scene.record().await;
    scene.hub.ignore_ranges();
    scene.hub.break_once(SHARD, 100_000);
    let folder = folder_of(local_copy(&record, None, &scene.places(None)).await.unwrap());
    assert_same_files(&record, &folder, scene.folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_hub_is_asked_again_and_a_dead_one_is_not_asked_forever() {
    let Some(scene) = Scene::new().await else { return };
    scene.hub.be_busy(3);
    scene.record().await;
    scene.hub.be_busy(1_000);
    let error = resolve(&named("main"), &scene.places(None)).await.unwrap_err();
    assert!(matches!(&error, ModelError::Hub { problem: HubProblem::Status(503), .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_never_get_their_name() {
    let Some(scene) = Scene::new().await else { return };
    let record = scene.record().await;
    let mut damaged = std::fs::read(scene.folder.path().join(SHARD)).unwrap();
    damaged[5000] ^= 1;
    scene.hub.serve_instead(SHARD, damaged);
    let error = local_copy(&record, None, &scene.places(None)).await.unwrap_err();
    assert!(matches!(&error, ModelError::WrongBytes { url, .. } if url.ends_with(SHARD)), "{error}");
    let content = scene.partial(&record, SHARD).with_extension("");
    assert!(!content.exists() && !scene.partial(&record, SHARD).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_in_the_cache_is_replaced() {
    let Some(scene) = Scene::new().await else { return };
    let record = scene.record().await;
    let folder = folder_of(local_copy(&record, None, &scene.places(None)).await.unwrap());
    let mut damaged = std::fs::read(folder.join(SHARD)).unwrap();
    damaged[5000] ^= 1;
    std::fs::write(folder.join(SHARD), damaged).unwrap();
    std::fs::remove_file(folder.join("config.json")).unwrap();
    let folder = folder_of(local_copy(&record, None, &scene.places(None)).await.unwrap());
    assert_same_files(&record, &folder, scene.folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_goes_to_the_hub_alone_and_is_never_shown() {
    let Some(scene) = Scene::new().await else { return };
    scene.hub.require_token("hunter2");
    let error = resolve(&named("main"), &scene.places(None)).await.unwrap_err();
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    let error = resolve(&named("main"), &scene.places(Some("hunter3"))).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter3"), "{error:?}");

    let places = scene.places(Some("hunter2"));
    let record = resolve(&named("main"), &places).await.unwrap().record;
    local_copy(&record, None, &places).await.unwrap();
    let (elsewhere, at_hub): (Vec<_>, Vec<_>) =
        scene.hub.requests().into_iter().partition(|request| request.path.starts_with("/cdn/"));
    assert!(elsewhere.iter().all(|request| request.authorization.is_none()), "{elsewhere:?}");
    assert_eq!(elsewhere.len(), record.files.iter().filter(|file| is_large(&file.name)).count());
    assert!(at_hub.iter().any(|request| request.authorization.as_deref() == Some("Bearer hunter2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do_and_show_no_signature() {
    let Some(scene) = Scene::new().await else { return };
    let places = scene.places(None);
    let error = resolve(&named("no-such-branch"), &places).await.unwrap_err();
    assert!(matches!(&error, ModelError::Hub { problem: HubProblem::NotFound, .. }), "{error}");

    let record = scene.record().await;
    std::fs::rename(scene.folder.path().join(SHARD), scene.folder.path().join("away")).unwrap();
    let error = local_copy(&record, None, &places).await.unwrap_err();
    assert!(error.to_string().contains(SHARD), "{error}");
    assert!(!format!("{error:?} {error}").contains(SIGNATURE), "{error:?}");

    scene.hub.gate();
    let gated = Places {
        hub: HubSettings { cache: scene.cache.path().join("other"), ..places.hub.clone() },
        ..places.clone()
    };
    let error = local_copy(&record, None, &gated).await.unwrap_err();
    assert!(matches!(&error, ModelError::Hub { problem: HubProblem::Gated, .. }), "{error}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut offline = places;
    offline.hub.endpoint = format!("http://{nobody}");
    let error = resolve(&named("main"), &offline).await.unwrap_err();
    assert!(matches!(&error, ModelError::Hub { problem: HubProblem::Unreachable(_), .. }), "{error}");
    assert!(error.to_string().contains("cannot reach the hub"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_model_comes_from_the_store() {
    let Some(scene) = Scene::new().await else { return };
    let bucket = tempfile::tempdir().unwrap();
    let store = Store::open(bucket.path().to_str().unwrap()).unwrap();
    let places = Places { store: Some(store.clone()), ..scene.places(None) };
    let folder = scene.folder.path().to_owned();
    let record = resolve(&ModelRef::Folder(folder.clone()), &places).await.unwrap().record;
    let pushed = push(&store, &record, &folder, &places).await.unwrap();
    assert_eq!(push(&store, &record, &folder, &places).await.unwrap(), pushed);
    assert_eq!(pushed.stored.as_deref(), Some(format!("models/{}", &record.digest[..16]).as_str()));

    // On the machine that has the folder nothing is fetched.
    assert_eq!(folder_of(local_copy(&pushed, None, &places).await.unwrap()), folder);

    // A machine without it fetches, and completes what an earlier attempt left.
    let elsewhere = ModelRecord { name: "/no/such/folder".into(), ..pushed };
    let own = scene.cache.path().join("embed-fleet").join(elsewhere.stored.as_deref().unwrap());
    std::fs::create_dir_all(&own).unwrap();
    let whole = std::fs::read(folder.join(SHARD)).unwrap();
    std::fs::write(own.join(format!("{SHARD}.partial")), &whole[..70_000]).unwrap();
    let copy = folder_of(local_copy(&elsewhere, None, &places).await.unwrap());
    assert_eq!(copy, own);
    assert_same_files(&record, &copy, &folder);
    assert_eq!(folder_of(local_copy(&elsewhere, None, &places).await.unwrap()), own);

    // The pushed folder by its own URL is the same model, with the list of files and without.
    let url = bucket.path().join(elsewhere.stored.as_deref().unwrap());
    let by_url = ModelRef::Store(format!("file:{}", url.display()));
    assert_eq!(resolve(&by_url, &places).await.unwrap().record.files, record.files);
    std::fs::remove_file(url.join("embed-fleet.json")).unwrap();
    let by_url = resolve(&by_url, &places).await.unwrap();
    assert_eq!((by_url.record.digest.clone(), by_url.dim), (record.digest.clone(), 64));
    assert_eq!(folder_of(local_copy(&by_url.record, None, &places).await.unwrap()), url);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_must_be_visible_and_hold_the_plans_model() {
    let Some(scene) = Scene::new().await else { return };
    let places = scene.places(None);
    let folder = scene.folder.path();
    let record = resolve(&ModelRef::Folder(folder.into()), &places).await.unwrap().record;
    assert_eq!(folder_of(local_copy(&record, None, &places).await.unwrap()), folder);
    assert_eq!(folder_of(local_copy(&record, Some(folder), &places).await.unwrap()), folder);

    let other = checkpoint::reference_model().unwrap();
    let found = resolve(&ModelRef::Folder(other.clone()), &places).await.unwrap().record.digest;
    let error = local_copy(&record, Some(&other), &places).await.unwrap_err().to_string();
    assert!(error.contains(&found) && error.contains(&record.digest), "{error}");

    let elsewhere = ModelRecord { name: "/no/such/folder".into(), ..record.clone() };
    let error = local_copy(&elsewhere, None, &places).await.unwrap_err();
    assert_eq!(error.exit_code(), shared::exit::ExitCode::Usage);
    assert!(error.to_string().contains("plan with --push-model"), "{error}");
    assert_eq!(folder_of(local_copy(&elsewhere, Some(folder), &places).await.unwrap()), folder);
}

#[tokio::test]
async fn a_damaged_record_is_refused() {
    let places = Places::default();
    let record = ModelRecord::hash(64);
    assert_eq!(local_copy(&record, None, &places).await.unwrap(), LocalModel::Hash(64));
    let wrong = ModelRecord { digest: "0".repeat(64), ..record };
    assert!(matches!(local_copy(&wrong, None, &places).await, Err(ModelError::BadRecord(_))));

    let file = shared::model::ModelFile { name: "../escape".into(), size: 1, sha256: "a".repeat(64) };
    let files = vec![file];
    let digest = shared::model::digest_of(&files);
    let escaping =
        ModelRecord { name: "a/b".into(), revision: Some(COMMIT.into()), digest, stored: None, files };
    assert!(matches!(local_copy(&escaping, None, &places).await, Err(ModelError::BadRecord(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetched_model_gives_the_bits_of_the_folder() {
    let Some(scene) = Scene::new().await else { return };
    let shared = tests::sample::folder().expect("the scene is set");
    let image = shared.join("reference/inputs/jpeg420_240x180.jpg");
    let embed = |model: &Path, endpoint: &str| {
        tests::program::Program::worker(scene.cache.path())
            .args(["embed", "--text", "다음 그림을 보시오.", "--device", "cpu"])
            .flag("--image", &image)
            .flag("--model", model)
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HOME", scene.cache.path())
            .env_remove("HF_TOKEN")
            .output()
            .expect(0)
            .stdout()
    };
    scene.hub.break_once(SHARD, 100_000);
    let endpoint = scene.hub.endpoint();
    let (from_hub, from_shards, whole) = tokio::task::block_in_place(|| {
        let from_hub = embed(Path::new(REPOSITORY), &endpoint);
        let from_shards = embed(scene.folder.path(), "http://127.0.0.1:1");
        (from_hub, from_shards, embed(&shared.join("reference/model"), "http://127.0.0.1:1"))
    });
    assert_eq!(from_hub, from_shards);
    assert_eq!(from_hub, whole, "three shards and a config of transformers 5 are the same model");
    assert!(scene.starts_of(SHARD).len() > 1, "the broken download went on");
}
