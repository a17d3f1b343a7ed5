//! A market that is alive: it has a clock, and its orders are carried out.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::boxes::Boxes;
use super::market::{Container, Effect, Market};

/// A market and its boxes, behind one lock.
#[derive(Debug)]
pub struct Held {
    inside: Mutex<Inside>,
    /// Something may happen sooner than was thought, or all is over.
    sooner: Condvar,
    started: Instant,
    epoch: Duration,
}

#[derive(Debug)]
struct Inside {
    market: Market,
    boxes: Boxes,
    over: bool,
}

impl Held {
    /// Takes a market over and drives it until [`Held::end`].
    pub fn new(market: Market, boxes: Boxes) -> Arc<Self> {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let inside = Mutex::new(Inside { market, boxes, over: false });
        let held = Arc::new(Self { inside, sooner: Condvar::new(), started: Instant::now(), epoch });
        let driven = Arc::clone(&held);
        std::thread::spawn(move || driven.drive());
        held
    }

    /// Since the epoch; never goes back.
    pub fn now(&self) -> Duration {
        self.epoch + self.started.elapsed()
    }

    /// Does something with the market and its boxes as they are now.
    pub fn with<T>(self: &Arc<Self>, work: impl FnOnce(&mut Market, &mut Boxes, Duration) -> T) -> T {
        let mut inside = self.lock();
        let now = self.now();
        inside.market.advance(now);
        self.carry_out(&mut inside);
        let Inside { market, boxes, .. } = &mut *inside;
        let result = work(market, boxes, now);
        self.carry_out(&mut inside);
        self.sooner.notify_all();
        result
    }

    /// Ends the driving and all boxes: none is started after this.
    pub fn end(&self) {
        let mut inside = self.lock();
        inside.over = true;
        inside.boxes.kill_all();
        self.sooner.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drive(self: Arc<Self>) {
        let mut inside = self.lock();
        while !inside.over {
            inside.market.advance(self.now());
            self.carry_out(&mut inside);
            let wait = match inside.market.next_event() {
                Some(at) => at.saturating_sub(self.now()),
                None => Duration::from_secs(3600),
            };
            inside = self.sooner.wait_timeout(inside, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn carry_out(self: &Arc<Self>, inside: &mut Inside) {
        if inside.over {
            return;
        }
        for effect in inside.market.take_effects() {
            match effect {
                Effect::Start(container) => self.start(inside, &container),
                Effect::Kill(instance) => inside.boxes.kill(instance),
                Effect::Erase(instance) => inside.boxes.erase(instance),
            }
        }
    }

    fn start(self: &Arc<Self>, inside: &mut Inside, container: &Container) {
        let instance = container.instance;
        let mut child = inside.boxes.start(container).unwrap_or_else(|error| {
            panic!("the box of instance {instance} cannot be started: {error}");
        });
        let held = Arc::downgrade(self);
        std::thread::spawn(move || {
            let code = child.wait().ok().and_then(|status| status.code());
            if let Some(held) = held.upgrade() {
                held.with(|market, boxes, now| {
                    // A later life of the same box is not the one that ended.
                    if boxes.group(instance) == Some(child.id()) {
                        market.script_ended(instance, code, now);
                    }
                });
            }
        });
    }
}
