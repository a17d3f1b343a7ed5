//! What is logged: a level alone means these programs' own lines.

/// The crates whose lines a level alone turns on. They never log a secret; what libraries write about
/// requests at their lower levels may hold one.
const OWN: [&str; 3] = ["shared", "worker", "coordinator"];

/// The filter for a value of `FLEET_LOG`: a level alone (`trace`) is for the crates of this project, and
/// everything else keeps to warnings unless it is named (`trace,hyper=debug`).
pub fn log_filter(asked: &str) -> String {
    let mut directives = vec!["warn".to_owned()];
    for directive in asked.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        if is_level(directive) {
            directives.extend(OWN.iter().map(|name| format!("{name}={directive}")));
        } else {
            directives.push(directive.to_owned());
        }
    }
    // Silence is for everybody.
    if asked.trim().eq_ignore_ascii_case("off") { "off".to_owned() } else { directives.join(",") }
}

/// As `tracing` reads levels: by name in any case, or by number.
fn is_level(text: &str) -> bool {
    let names = ["trace", "debug", "info", "warn", "error", "off", "0", "1", "2", "3", "4", "5"];
    names.iter().any(|name| text.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::log_filter;

    #[test]
    fn a_level_alone_is_for_our_own_crates() {
        assert_eq!(log_filter("trace"), "warn,shared=trace,worker=trace,coordinator=trace");
        assert_eq!(log_filter("5"), "warn,shared=5,worker=5,coordinator=5");
        assert_eq!(
            log_filter("Info, hyper=debug"),
            "warn,shared=Info,worker=Info,coordinator=Info,hyper=debug"
        );
        assert_eq!(log_filter("worker::pipeline=debug"), "warn,worker::pipeline=debug");
        assert_eq!(log_filter("off"), "off");
        assert_eq!(log_filter(""), "warn");
    }
}
