//! What a proxy does to which request.

use std::sync::Arc;
use std::time::Duration;

/// Something to do at a moment, for instance to kill a process.
pub type Deed = Arc<dyn Fn() + Send + Sync>;

/// What happens to a request.
#[derive(Clone)]
pub enum Fault {
    /// The connection breaks before the request arrives.
    CutBefore,
    /// The request arrives, and the connection breaks at once.
    CutAfter,
    /// The request is carried out, and its reply is lost with the connection.
    LoseReply,
    /// The request arrives late.
    Delay(Duration),
    /// The connection carries nothing any more, and nobody is told.
    Silence,
    /// The request is carried out; the client is told that no reply will come, and may go on sending.
    HalfClose,
    /// Nothing arrives; the client gets this reply instead.
    Answer(Vec<u8>),
    /// The request is carried out; the client gets this reply instead of the true one.
    ReplaceReply(Vec<u8>),
    /// The request is carried out; the reply ends after so many bytes.
    TruncateReply(usize),
    /// The deed is done, and the request never arrives.
    DoBefore(Deed),
    /// The request is carried out, then the deed is done, and the reply is lost.
    DoAfter(Deed),
}

/// Which request a fault happens to.
#[derive(Clone)]
pub struct Rule {
    needles: Vec<Vec<u8>>,
    skip: u64,
    times: u64,
    pub(super) fault: Fault,
}

impl Rule {
    /// A request that holds all these texts, in this order.
    ///
    /// # Panics
    /// When a text is empty.
    pub fn new(needles: &[&str], fault: Fault) -> Self {
        assert!(needles.iter().all(|needle| !needle.is_empty()), "every request holds nothing");
        let needles = needles.iter().map(|needle| needle.as_bytes().to_vec()).collect();
        Self { needles, skip: 0, times: 1, fault }
    }

    /// Only after so many others of the kind.
    #[must_use]
    pub fn after(mut self, others: u64) -> Self {
        self.skip = others;
        self
    }

    /// So many times in a row.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Whether it is this request's turn; counts it.
    pub(super) fn strikes(&mut self, request: &[u8]) -> bool {
        if self.times == 0 || !self.matches(request) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }

    fn matches(&self, request: &[u8]) -> bool {
        let mut rest = request;
        self.needles.iter().all(|needle| {
            let found = rest.windows(needle.len()).position(|window| window == needle.as_slice());
            found.is_some_and(|at| {
                rest = &rest[at + needle.len()..];
                true
            })
        })
    }
}

/// An answer of an HTTP server, which closes the connection after it.
pub fn http_error(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_strikes_its_requests_in_their_turn() {
        let mut rule = Rule::new(&["PUT ", "/parts/"], Fault::CutBefore).after(1).times(2);
        let put = b"PUT /fleet/runs/x/parts/000001-ab.npz HTTP/1.1";
        let strikes: Vec<bool> = (0..5).map(|_| rule.strikes(put)).collect();
        assert_eq!(strikes, [false, true, true, false, false]);
        let mut rule = Rule::new(&["PUT ", "/parts/"], Fault::CutBefore);
        assert!(!rule.strikes(b"GET /fleet/runs/x/parts/1 HTTP/1.1"));
        assert!(!rule.strikes(b"/parts/ PUT "));
    }
}
