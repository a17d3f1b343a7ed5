//! Items that devices had too little memory for, and when that proves that an item is too large.
//!
//! A machine that is not the largest of the run proves nothing: a larger one may do the item. One
//! machine of the largest memory may have lost some of it to another program. So an item is too large
//! once [`HOSTS_THAT_PROVE`] different hosts of the largest memory ran out on it. A larger machine that
//! comes later takes that back, since it has not tried.

/// How many hosts it takes. The Lua library has the same number.
pub const HOSTS_THAT_PROVE: usize = 2;

/// The most shortages remembered for a shard. The Lua library has the same number.
pub const SHORTAGES_KEPT: usize = 16;

/// An item that a machine had too little memory for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// The item's position in the shard.
    pub item: u32,
    /// The machine.
    pub host: String,
    /// The memory of its device.
    pub memory: u64,
}

/// What is remembered for one shard: no item and host twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shortages(Vec<Shortage>);

impl Shortages {
    /// Remembers one, where machines of `largest_memory` are the largest; `true` where the item turns
    /// out too large by it.
    ///
    /// What has become smaller than the largest is forgotten, since the largest only grows. What is full
    /// takes no more: dropping the oldest would let items that are known to be too large come back for
    /// ever.
    pub fn note(&mut self, shortage: Shortage, largest_memory: u64) -> bool {
        self.0.retain(|known| known.memory >= largest_memory);
        let hosts = self.0.iter().filter(|known| known.item == shortage.item).count();
        let known = self.0.iter().any(|known| known.item == shortage.item && known.host == shortage.host);
        let proves_nothing = shortage.memory < largest_memory;
        if proves_nothing || known || hosts >= HOSTS_THAT_PROVE || self.0.len() >= SHORTAGES_KEPT {
            return false;
        }
        self.0.push(shortage);
        hosts + 1 >= HOSTS_THAT_PROVE
    }

    /// The positions of the items that are too large for machines of `largest_memory`, ascending.
    pub fn too_large(&self, largest_memory: u64) -> Vec<u32> {
        let mut items: Vec<u32> = self
            .0
            .iter()
            .filter(|shortage| shortage.memory >= largest_memory)
            .map(|shortage| shortage.item)
            .collect();
        items.sort_unstable();
        items
            .chunk_by(|one, next| one == next)
            .filter(|same| same.len() >= HOSTS_THAT_PROVE)
            .map(|same| same[0])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortage(item: u32, host: &str, memory: u64) -> Shortage {
        Shortage { item, host: host.to_owned(), memory }
    }

    #[test]
    fn two_hosts_of_the_largest_memory_prove_it() {
        let mut shortages = Shortages::default();
        for (item, host, memory, proved) in [
            (7, "a", 8, false),
            (7, "a", 8, false),
            (7, "b", 4, false),
            (2, "b", 8, false),
            (7, "b", 8, true),
            (7, "c", 8, false),
            (2, "a", 8, true),
        ] {
            assert_eq!(shortages.note(shortage(item, host, memory), 8), proved, "{item} on {host}");
        }
        assert_eq!(shortages.too_large(8), [2, 7]);
        assert!(shortages.too_large(9).is_empty(), "a larger machine has not tried");
    }

    #[test]
    fn a_larger_machine_makes_room() {
        let mut shortages = Shortages::default();
        for item in 0..20 {
            shortages.note(shortage(item, "a", 4), 4);
        }
        assert_eq!(shortages.0.len(), SHORTAGES_KEPT);
        assert!(!shortages.note(shortage(0, "b", 4), 4), "it is full");
        assert!(!shortages.note(shortage(19, "a", 8), 8));
        assert_eq!(shortages.0, [shortage(19, "a", 8)]);
    }
}
