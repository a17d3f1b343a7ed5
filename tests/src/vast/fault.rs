//! What goes wrong for the whole account, switched by a test at any time.

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::{Answer, Body, ErrorStyle};

/// A reply that is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// This status, in plain text.
    Status(u16),
    /// The connection is closed without a reply.
    Closed,
    /// 200 with a web page.
    Html,
    /// 200 with `{"success": true}` and nothing else.
    WrongShape,
    /// 200 with the first half of the JSON.
    Truncated,
    /// 200 with no byte of a body.
    EmptyBody,
}

impl Broken {
    /// What becomes of an answer.
    pub fn spoil(self, answer: Answer) -> Answer {
        match self {
            Self::Status(status) => Answer::text(status, "upstream connect error or disconnect"),
            Self::Closed => Answer::hang_up(),
            Self::Html => {
                let page = "<html><body>We will be back soon.</body></html>".to_owned();
                Answer { body: Body::Text("text/html", page), ..Answer::success() }
            }
            Self::WrongShape => Answer::success(),
            Self::Truncated => {
                let whole = match answer.body {
                    Body::Json(value) => value.to_string(),
                    Body::Text(_, text) => text,
                    Body::Log { .. } => json!({"result": "log"}).to_string(),
                };
                let half: String = whole.chars().take(whole.chars().count() / 2).collect();
                Answer { body: Body::Text("application/json", half), ..Answer::success() }
            }
            Self::EmptyBody => {
                Answer { body: Body::Text("application/json", String::new()), ..Answer::success() }
            }
        }
    }
}

/// Something that goes wrong from now on, until the faults are cleared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// The list of instances is broken.
    List(Broken),
    /// The list is broken from its second page on.
    LaterPages(Broken),
    /// The list lacks instances for this long after their creation.
    ListLags(Duration),
    /// Every endpoint is broken; nothing is done.
    Everything(Broken),
    /// Every reply comes this much later.
    Delay(Duration),
    /// The next calls are answered 429.
    TooMany(u32),
    /// The account has this much credit left, in dollars; what is billed later goes off it.
    Credit(f64),
    /// How refusals are written.
    Errors(ErrorStyle),
}

/// The faults that are switched on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// See [`Fault::List`].
    pub list: Option<Broken>,
    /// See [`Fault::LaterPages`].
    pub later_pages: Option<Broken>,
    /// See [`Fault::ListLags`].
    pub list_lag: Duration,
    /// See [`Fault::Everything`].
    pub everything: Option<Broken>,
    /// See [`Fault::Delay`].
    pub delay: Duration,
    /// See [`Fault::TooMany`].
    pub too_many: u32,
    /// See [`Fault::Errors`].
    pub errors: ErrorStyle,
}

impl Faults {
    /// Switches one on; credit is the market's own.
    pub fn set(&mut self, fault: Fault) {
        match fault {
            Fault::List(broken) => self.list = Some(broken),
            Fault::LaterPages(broken) => self.later_pages = Some(broken),
            Fault::ListLags(lag) => self.list_lag = lag,
            Fault::Everything(broken) => self.everything = Some(broken),
            Fault::Delay(delay) => self.delay = delay,
            Fault::TooMany(calls) => self.too_many = calls,
            Fault::Credit(_) => {}
            Fault::Errors(style) => self.errors = style,
        }
    }

    /// What breaks a page of the list.
    pub fn of_list(&self, is_first_page: bool) -> Option<Broken> {
        self.list.or(self.later_pages.filter(|_| !is_first_page))
    }
}

/// A page of the list, spoilt or not.
pub fn page(faults: &Faults, is_first_page: bool, page: Value) -> Answer {
    let answer = Answer::json(page);
    match faults.of_list(is_first_page) {
        Some(broken) => broken.spoil(answer),
        None => answer,
    }
}
