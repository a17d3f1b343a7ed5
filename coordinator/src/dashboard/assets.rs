//! The page itself, which is part of the program, and what every answer tells the browser to refuse.

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::response::Response;
use axum::routing::get;

use super::Served;

/// Everything from here, nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Address, kind and content.
const FILES: [(&str, &str, &str); 13] = [
    ("/", HTML, include_str!("assets/index.html")),
    ("/assets/style.css", STYLE, include_str!("assets/style.css")),
    ("/assets/parts.css", STYLE, include_str!("assets/parts.css")),
    ("/assets/theme.js", SCRIPT, include_str!("assets/theme.js")),
    ("/assets/main.js", SCRIPT, include_str!("assets/main.js")),
    ("/assets/stream.js", SCRIPT, include_str!("assets/stream.js")),
    ("/assets/words.js", SCRIPT, include_str!("assets/words.js")),
    ("/assets/chart.js", SCRIPT, include_str!("assets/chart.js")),
    ("/assets/lists.js", SCRIPT, include_str!("assets/lists.js")),
    ("/assets/workers.js", SCRIPT, include_str!("assets/workers.js")),
    ("/assets/dialog.js", SCRIPT, include_str!("assets/dialog.js")),
    ("/assets/orders.js", SCRIPT, include_str!("assets/orders.js")),
    ("/assets/icon.svg", PICTURE, include_str!("assets/icon.svg")),
];

/// The page and what it is made of. The next program may bring other files, so that nothing is kept for long.
pub fn routes() -> Router<Served> {
    FILES.into_iter().fold(Router::new(), |router, (address, kind, content)| {
        router.route(
            address,
            get(move || async move { ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], content) }),
        )
    })
}

/// Adds to every answer what a browser is to refuse.
pub async fn guard(mut response: Response) -> Response {
    let rules: [(HeaderName, &'static str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in rules {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn the_page_asks_nobody_else_and_has_nothing_inline() {
        for (address, kind, content) in FILES {
            let outside = content.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains("http://") && !outside.contains("https://"), "{address}");
            assert!(!content.contains("innerHTML") && !content.contains("eval("), "{address}");
            if kind == super::HTML {
                assert!(!content.contains("style=\"") && !content.contains("<style"), "{address}");
                assert!(!content.contains(" on") || !content.contains("=\"("), "{address}");
                for script in content.split("<script").skip(1) {
                    let (head, rest) = script.split_once('>').unwrap();
                    assert!(head.contains("src=") && rest.starts_with("</script>"), "{address}: {head}");
                }
            }
        }
    }

    #[test]
    fn what_the_files_name_exists() {
        for (address, _, content) in FILES {
            let quoted = content.split(['"', '\'']).filter(|word| {
                word.starts_with("/assets/") || (word.starts_with("./") && word.contains('.'))
            });
            for word in quoted {
                let named = word.replace("./", "/assets/");
                assert!(FILES.iter().any(|(have, ..)| *have == named), "{address} names {word}");
            }
        }
    }
}
