//! Work spread over the cores of this machine, and its results in the order of the work.

use std::sync::mpsc::sync_channel;

/// Threads for work that computes: as many as there are cores, and no more than gain.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(16)
}

/// Makes pieces on one thread, works on them on `threads` others, and takes the results on this one, in the
/// order in which the pieces were made.
///
/// `make` hands its pieces to a function that answers `false` once nobody takes them any more; what it returns
/// is the answer of all. `take` ends everything by `false`. Pieces go to the threads in turns, so that the
/// order needs no list; a few a thread are under way at a time, whatever their number.
pub fn in_turns<Piece: Send, Outcome: Send, Answer: Send>(
    threads: usize,
    make: impl FnOnce(&mut dyn FnMut(Piece) -> bool) -> Answer + Send,
    work: impl Fn(Piece) -> Outcome + Sync,
    mut take: impl FnMut(Outcome) -> bool,
) -> Answer {
    std::thread::scope(|scope| {
        let (mut to_workers, mut from_workers) = (Vec::new(), Vec::new());
        for _ in 0..threads.max(1) {
            let (send_piece, pieces) = sync_channel(1);
            let (send_result, results) = sync_channel(1);
            to_workers.push(send_piece);
            from_workers.push(results);
            let work = &work;
            scope.spawn(move || {
                // Ends when either side is gone.
                let _ = pieces.into_iter().try_for_each(|piece| send_result.send(work(piece)));
            });
        }
        let maker = scope.spawn(move || {
            let mut turn = 0;
            make(&mut |piece| {
                turn += 1;
                to_workers[(turn - 1) % to_workers.len()].send(piece).is_ok()
            })
        });
        let mut turn = 0;
        while let Ok(result) = from_workers[turn % from_workers.len()].recv() {
            if !take(result) {
                break;
            }
            turn += 1;
        }
        // Whoever still wants to give something finds that nobody takes it.
        drop(from_workers);
        maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_pieces() {
        for threads in [0, 1, 2, 7] {
            let mut taken = Vec::new();
            let made = in_turns(
                threads,
                |give| (0..1000_u64).filter(|number| give(*number)).count(),
                |number| number * 2,
                |double| {
                    taken.push(double);
                    true
                },
            );
            assert_eq!((made, taken), (1000, (0..1000).map(|number| number * 2).collect()));
        }
    }

    #[test]
    fn who_takes_no_more_ends_it() {
        let made = in_turns(
            3,
            |give| (0..1_000_000_u64).take_while(|number| give(*number)).count(),
            |number| number,
            |number| number < 10,
        );
        assert!((10..40).contains(&made), "{made}");
    }
}
