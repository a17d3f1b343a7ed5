//! What a coordinator asks of the server before it trusts it with a run.

use redis::{Value, cmd};

use super::super::{QueueError, QueueErrorKind};
use super::link::Link;
use super::reply::{Fields, text};

/// The oldest version with functions.
const OLDEST_MAJOR: u32 = 7;

/// Loads the library, in place of an older one of the same name.
pub(super) async fn load_functions(link: &Link, library: &str) -> Result<(), QueueError> {
    let mut command = cmd("FUNCTION");
    command.arg("LOAD").arg("REPLACE").arg(library);
    link.call("loading the queue's functions", &command).await.map(drop)
}

/// Refuses a server that has no functions, or that would throw shards away when memory is short.
pub(super) async fn check_server(link: &Link) -> Result<(), QueueError> {
    let server = info(link, "server").await?;
    let version = info_field(&server, "redis_version").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_MAJOR) {
        let shown = link.shown();
        return Err(refused(format!(
            "queue {shown}: Redis {version} has no functions: use Redis 7 or later, or Valkey"
        )));
    }
    let policy = eviction_policy(link).await?;
    if policy != "noeviction" {
        let shown = link.shown();
        return Err(refused(format!(
            "queue {shown}: maxmemory-policy is {policy:?}, which loses shards when memory is short: set it to \
             noeviction (`CONFIG SET maxmemory-policy noeviction`, and in redis.conf)"
        )));
    }
    Ok(())
}

/// From CONFIG, or from INFO where CONFIG is withheld, as hosted servers do.
async fn eviction_policy(link: &Link) -> Result<String, QueueError> {
    let operation = "reading maxmemory-policy";
    let mut command = cmd("CONFIG");
    command.arg("GET").arg("maxmemory-policy");
    match link.call(operation, &command).await {
        Ok(value) => {
            let mut fields = Fields::new(operation, value)?;
            if !fields.is_empty() {
                fields.text()?;
                return fields.text();
            }
        }
        Err(error) if error.is_transient() => return Err(error),
        Err(_) => {}
    }
    let memory = info(link, "memory").await?;
    let policy = info_field(&memory, "maxmemory_policy").map(str::to_owned);
    policy.ok_or_else(|| {
        let shown = link.shown();
        refused(format!(
            "queue {shown}: neither CONFIG nor INFO tells its maxmemory-policy: allow one of them"
        ))
    })
}

async fn info(link: &Link, section: &'static str) -> Result<String, QueueError> {
    let mut command = cmd("INFO");
    command.arg(section);
    match link.call("reading the server's INFO", &command).await? {
        // Answered as a verbatim text on newer protocols.
        Value::VerbatimString { text, .. } => Ok(text),
        value => text("INFO", value),
    }
}

fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn refused(message: String) -> QueueError {
    QueueError::new(QueueErrorKind::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::info_field;

    #[test]
    fn fields_of_info_are_found_by_their_whole_name() {
        let info = "# Server\r\nredis_version_x:1\r\nredis_version:7.0.15\r\n";
        assert_eq!(info_field(info, "redis_version"), Some("7.0.15"));
        assert_eq!(info_field(info, "redis"), None);
    }
}
