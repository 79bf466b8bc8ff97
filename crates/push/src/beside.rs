//! Asks a store several things at once where it is far away, and one after the other where it is not.
//!
//! May not know what is asked. What always holds: answers come in the order of the questions, and no more are under
//! way than was said. Tested below.
use backupengine_vault::Vault;
use std::panic::resume_unwind;
use std::thread;

/// Questions under way at once across a network: each is small.
const FAR: usize = 16;

/// How many questions `vault`'s store is asked at once.
pub(crate) fn at_once(vault: &Vault) -> usize {
    if vault.store().grid() > 1 { FAR } else { 1 }
}

/// What `ask` says to each of `all`, of which `at_once` are asked at a time.
pub(crate) fn each<T: Sync, A: Send>(at_once: usize, all: &[T], ask: impl Fn(&T) -> A + Sync) -> Vec<A> {
    let mut answers = Vec::with_capacity(all.len());
    for group in all.chunks(at_once.max(1)) {
        // The first needs no thread of its own: often it is the only one.
        let Some((first, others)) = group.split_first() else { continue };
        thread::scope(|scope| {
            let ask = &ask;
            let others: Vec<_> = others.iter().map(|other| scope.spawn(move || ask(other))).collect();
            answers.push(ask(first));
            answers.extend(
                others.into_iter().map(|other| other.join().unwrap_or_else(|why| resume_unwind(why))),
            );
        });
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn answers_come_in_order_and_no_more_is_asked_at_once_than_was_said() {
        let all: Vec<usize> = (0..50).collect();
        for at_once in [1, 7, 16, 100] {
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let answers = each(at_once, &all, |n| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                now.fetch_sub(1, Ordering::SeqCst);
                n * 2
            });
            assert_eq!(answers, all.iter().map(|n| n * 2).collect::<Vec<_>>());
            assert!(most.into_inner() <= at_once);
        }
        assert!(each(4, &[], |n: &usize| *n).is_empty());
    }

    #[test]
    fn a_group_is_asked_side_by_side() {
        // Comes back only where all four are there at once.
        let meet = Barrier::new(4);
        assert_eq!(each(4, &[1, 2, 3, 4], |n| (*n, meet.wait()).0), [1, 2, 3, 4]);
    }
}
