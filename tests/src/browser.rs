//! A headless Chromium, driven by its DevTools protocol over two pipes: no port, no web socket.

mod channel;

use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::Running;
use crate::wait::until;
use channel::Channel;

/// Names that Chromium goes by.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width in CSS pixels.
    pub width: u32,
    /// Height in CSS pixels.
    pub height: u32,
    /// Device pixels for each of them.
    pub scale: f64,
    /// Whether the system prefers dark colours.
    pub dark: bool,
    /// Whether it is a phone.
    pub phone: bool,
}

/// A running browser, ended on drop.
pub struct Browser {
    channel: Channel,
    _process: Running,
    _folder: TempDir,
}

/// A page in it.
pub struct Page<'a> {
    browser: &'a mut Browser,
    session: String,
}

impl Browser {
    /// Starts one, or says visibly that there is none.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn start() -> Option<Self> {
        let is_there = |name: &&str| {
            let mut command = Command::new(name);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let Some(name) = NAMES.into_iter().find(is_there) else {
            eprintln!("skipped: chromium is not installed");
            return None;
        };
        let folder = TempDir::new().unwrap();
        let (process, channel) = channel::start(name, folder.path());
        Some(Self { channel, _process: process, _folder: folder })
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str, look: Look) -> Page<'_> {
        let target = self.channel.call(None, "Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.channel.call(None, "Target.attachToTarget", attach);
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let mut page = Page { browser: self, session };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.call(domain, json!({}));
        }
        page.look(look);
        page.call("Page.navigate", json!({"url": url}));
        let loaded = format!("location.href === {url:?} && document.readyState === 'complete'");
        page.wait_for("the page to load", &loaded);
        page
    }

    /// What pages complained of since they were opened: exceptions, failed loads, what their policy refused.
    pub fn complaints(&self) -> &[String] {
        self.channel.complaints()
    }
}

impl Page<'_> {
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.browser.channel.call(Some(&self.session), method, parameters)
    }

    /// Looks at it in another way.
    pub fn look(&mut self, look: Look) {
        let size = json!({
            "width": look.width, "height": look.height, "deviceScaleFactor": look.scale, "mobile": look.phone,
        });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if look.dark { "dark" } else { "light" };
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// The value of an expression; that of a promise once it is there.
    ///
    /// # Panics
    /// When the script fails.
    pub fn evaluate(&mut self, script: &str) -> Value {
        let parameters = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{script}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of the element with this id, as it is seen.
    pub fn text(&mut self, id: &str) -> String {
        let script = format!("document.getElementById({id:?})?.innerText ?? ''");
        self.evaluate(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub fn wait_for(&mut self, what: &str, script: &str) {
        until(what, || (self.evaluate(script) == true).then_some(()));
    }

    /// Writes what is seen, the whole page, as a PNG.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn screenshot(&mut self, path: &Path) {
        let parameters = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.call("Page.captureScreenshot", parameters);
        let png = STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        std::fs::write(path, png).unwrap();
    }

    /// Presses a key, as a person does.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types a text into the element in focus.
    pub fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }
}
