//! `queue-acl`: a user of the queue for the workers of one run, with the fewest rights that do.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use shared::exit::ExitCode;
use shared::ids::RunId;
use shared::queue::redis::RedisOptions;
use shared::queue::redis::acl::{AccessList, Kept, QueuePassword, WorkerUser, check_name, default_name};
use shared::settings::{FileSettings, QueueAddress, QueueUrl};

use super::args::{QueueArgs, StoreArgs};
use super::private_file;
use crate::context::run_of;
use crate::failure::Failure;

/// Whose rights, and what to do about them.
#[derive(Debug, Args)]
pub struct AclArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    queue: QueueArgs,
    /// The user; worker-RUN is the default
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Make the user on the server, and try out what it may and may not do
    #[arg(long, conflicts_with = "remove")]
    apply: bool,
    /// Delete the user from the server
    #[arg(long)]
    remove: bool,
    /// The file with the user's password, made with a fresh one where it is missing; RUN.queue-password is the default
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Prints the line for redis-cli, and does what else is asked.
pub async fn acl(args: AclArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let run = match args.store.run(file) {
        Some(run) => run,
        None => run_of(&args.store.open(file)?, None).await?,
    };
    let name = args.user.clone().unwrap_or_else(|| default_name(&run));
    check_name(&name).map_err(|error| Failure::usage(error.to_string()))?;
    if args.remove {
        return remove(&name, &administrator(&args, file)?).await;
    }
    // The line alone needs no server.
    let address = if args.apply {
        administrator(&args, file)?
    } else {
        args.queue.address(file)?.unwrap_or_else(|| QueueUrl::from("redis://HOST:6379/0".to_owned()).into())
    };
    let path = args.password_file.clone().unwrap_or_else(|| default_file(&run));
    let password = password(&path)?;
    let user = WorkerUser::new(&name, &run, password, &address)
        .map_err(|error| Failure::usage(error.to_string()))?;
    println!("{}", user.rights().line());
    if args.apply {
        apply(&user, &name, &address).await?;
    }
    eprintln!("workers log in with FLEET_QUEUE={}", template(&address, &name, &path));
    Ok(ExitCode::Done)
}

fn administrator(args: &AclArgs, file: &FileSettings) -> Result<QueueAddress, Failure> {
    let address = args.queue.required(file)?;
    if address.url().is_memory() {
        return Err(Failure::usage(
            "memory: is a queue inside one process and has no users; pass --queue redis://...",
        ));
    }
    Ok(address)
}

async fn apply(user: &WorkerUser, name: &str, address: &QueueAddress) -> Result<(), Failure> {
    let list = AccessList::open(address, RedisOptions::default())?;
    list.apply(user).await?;
    let wrong = list.prove(user).await?;
    if !wrong.is_empty() {
        return Err(Failure::new(
            ExitCode::Unexpected,
            anyhow::anyhow!(
                "the server has the user {name}, but its rights are not as they should be: {}",
                wrong.join("; ")
            ),
        ));
    }
    eprintln!(
        "user {name} is there: it logs in, may do what a worker does to this run's keys, and is refused all else that was tried"
    );
    say_kept(list.save().await?);
    Ok(())
}

async fn remove(name: &str, address: &QueueAddress) -> Result<ExitCode, Failure> {
    let list = AccessList::open(address, RedisOptions::default())?;
    if list.remove(name).await? {
        println!("user {name} is deleted, and its connections are ended");
        say_kept(list.save().await?);
    } else {
        println!("the server has no user {name}");
    }
    Ok(ExitCode::Done)
}

fn say_kept(kept: Kept) {
    if let Kept::Forgotten(why) = kept {
        eprintln!(
            "warning: the server does not write its users down, so a restart goes back to those it started with; set \
             aclfile in its redis.conf, or repeat this command after a restart ({why})"
        );
    }
}

fn default_file(run: &RunId) -> PathBuf {
    PathBuf::from(format!("{run}.queue-password"))
}

/// The password in the file, which is made where it is missing.
fn password(path: &Path) -> Result<QueuePassword, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            warn_if_others_can_read(path);
            QueuePassword::read(&text).ok_or_else(|| {
                Failure::usage(format!("{} is empty: delete it, or write a password into it", path.display()))
            })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let password = QueuePassword::fresh();
            let mut file = private_file::create(path)
                .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
            writeln!(file, "{}", password.expose())?;
            eprintln!("a fresh password is in {}, which only you can read", path.display());
            Ok(password)
        }
        Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

fn warn_if_others_can_read(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        eprintln!("warning: others can read {}; chmod 600 keeps the password to you", path.display());
    }
}

/// The worker's URL, with the password left to the shell.
fn template(address: &QueueAddress, name: &str, path: &Path) -> String {
    let Ok(url) = url::Url::parse(address.url().expose()) else {
        return format!("redis://{name}:PASSWORD@HOST:6379/0");
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "{}://{name}:$(cat '{}')@{}{port}{}",
        url.scheme(),
        path.display(),
        url.host_str().unwrap_or("HOST"),
        url.path()
    )
}
