//! Places for connections: bounded in all and for each holder, so that nobody takes them all. Where those wait who
//! have not said who they are, one that has had its time gives its place up to whoever comes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Places for holders of one kind: addresses or keys. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Places<K>(Arc<Mutex<Taken<K>>>);

#[derive(Debug)]
struct Taken<K> {
    most: usize,
    patience: Option<Duration>,
    next: u64,
    /// By number, so the oldest comes first.
    holders: BTreeMap<u64, Holder<K>>,
    /// The numbers of each holder. One without a place is not listed.
    numbers: HashMap<K, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Holder<K> {
    who: K,
    since: Instant,
    /// Dropped when the place is given to another.
    _tell: oneshot::Sender<()>,
}

/// One place, free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Clone + Eq + Hash> {
    number: u64,
    told: oneshot::Receiver<()>,
    places: Places<K>,
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// At most `most` places. With `patience`, one that was held for longer is given up when all are taken.
    pub(crate) fn new(most: usize, patience: Option<Duration>) -> Self {
        let (holders, numbers) = (BTreeMap::new(), HashMap::new());
        Self(Arc::new(Mutex::new(Taken { most, patience, next: 0, holders, numbers })))
    }

    /// A place for `who`, of at most `each` that it may hold; `None` when there is none.
    pub(crate) fn take(&self, who: K, each: usize, now: Instant) -> Option<Place<K>> {
        let mut taken = self.taken();
        let own = taken.numbers.get(&who);
        if own.map_or(0, BTreeSet::len) >= each {
            let oldest = own.and_then(BTreeSet::first).copied()?;
            taken.give_up(oldest, now)?;
        } else if taken.holders.len() >= taken.most {
            let oldest = *taken.holders.first_key_value()?.0;
            taken.give_up(oldest, now)?;
        }
        let number = taken.next;
        taken.next += 1;
        let (tell, told) = oneshot::channel();
        taken.numbers.entry(who.clone()).or_default().insert(number);
        taken.holders.insert(number, Holder { who, since: now, _tell: tell });
        Some(Place { number, told, places: self.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        // Nothing in here panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Taken<K> {
    /// Takes the place of this number away, where it was held for long enough.
    fn give_up(&mut self, number: u64, now: Instant) -> Option<()> {
        let since = self.holders.get(&number)?.since;
        let had_its_time = self.patience.is_some_and(|patience| now >= since + patience);
        had_its_time.then(|| self.leave(number))
    }

    fn leave(&mut self, number: u64) {
        let Some(holder) = self.holders.remove(&number) else { return };
        if let Some(numbers) = self.numbers.get_mut(&holder.who) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.numbers.remove(&holder.who);
            }
        }
    }
}

impl<K: Clone + Eq + Hash> Place<K> {
    /// Ends when the place was given to another.
    pub(crate) async fn given_up(&mut self) {
        // The sender is never used, only dropped.
        let Err(_gone) = (&mut self.told).await else { return };
    }
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        self.places.taken().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn is_given_up(place: &mut Place<&'static str>) -> bool {
        place.told.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn nobody_takes_more_than_its_share_and_a_free_place_is_there_again() {
        let (places, now) = (Places::new(3, None), Instant::now());
        let first = places.take("a", 2, now).expect("free");
        let _second = places.take("a", 2, now).expect("free");
        assert!(places.take("a", 2, now + PATIENCE * 99).is_none(), "its share is taken");
        let _other = places.take("b", 2, now).expect("the last one");
        assert!(places.take("c", 2, now).is_none(), "all are taken");
        drop(first);
        let _again = places.take("c", 2, now).expect("free again");
    }

    #[test]
    fn who_had_its_time_gives_its_place_to_a_newcomer() {
        let (places, now) = (Places::new(3, Some(PATIENCE)), Instant::now());
        let mut old = places.take("a", 2, now).expect("free");
        let mut other = places.take("b", 2, now).expect("free");
        let mut young = places.take("a", 2, now + PATIENCE / 2).expect("free");
        // All are taken, and nobody has had its time.
        assert!(places.take("c", 2, now + PATIENCE / 2).is_none());
        // Over its share, a holder loses its own oldest place, and no one else loses any.
        let mut newest = places.take("a", 2, now + PATIENCE).expect("its own oldest one");
        assert!(is_given_up(&mut old) && !is_given_up(&mut young) && !is_given_up(&mut other));
        // All are taken: the oldest of all goes.
        let _newcomer = places.take("c", 2, now + PATIENCE).expect("the oldest one");
        assert!(is_given_up(&mut other) && !is_given_up(&mut young) && !is_given_up(&mut newest));
        // What was taken away already is not freed twice.
        drop((old, other));
        assert!(places.take("c", 2, now + PATIENCE).is_none());
    }
}
