//! The Merkle tree of RFC 6962, section 2.1: leaves are hashed after a zero byte, nodes after a one, so that neither passes for the other.
//!
//! A *part* is a perfect subtree: 2^level leaves that begin at a multiple of that. Every tree is a row of parts, and every proof is made of
//! them. Start at [`Frontier::append`].

use seal::sha256;

/// SHA-256.
pub type Hash = [u8; 32];

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf].concat())
}

/// The hash of a node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut both = [1; 65];
    both[1..33].copy_from_slice(left);
    both[33..].copy_from_slice(right);
    sha256(&both)
}

/// The root of a tree without leaves.
pub fn empty_root() -> Hash {
    sha256(b"")
}

/// A part of the tree: which level (0 for a leaf), and which of that level, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// It has 2^level leaves.
    pub level: u32,
    /// It begins at leaf `index * 2^level`.
    pub index: u64,
}

/// The right edge of a tree: all that is needed to go on with it. As many hashes as the size has ones in binary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    parts: Vec<(u32, Hash)>,
}

impl Frontier {
    /// The edge of a tree of `size` leaves, from the hashes of its [`parts`], in their order. `None` when there are not as many.
    pub fn of(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        let levels = parts(0, size);
        let parts = (levels.len() == hashes.len()).then(|| levels.iter().map(|node| node.level).zip(hashes).collect())?;
        Some(Self { size, parts })
    }

    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. Says which parts are complete now, the leaf first.
    pub fn append(&mut self, leaf: Hash) -> Vec<(Node, Hash)> {
        self.add(0, leaf)
    }

    /// Adds a part whose leaves are not known. `None` where no such part can begin, or a tree would get too large.
    pub fn append_part(&mut self, level: u32, hash: Hash) -> Option<()> {
        let leaves = 1_u64.checked_shl(level)?;
        if level > 62 || !self.size.is_multiple_of(leaves) || self.size.checked_add(leaves)? >= 1 << 62 {
            return None;
        }
        self.add(level, hash);
        Some(())
    }

    fn add(&mut self, level: u32, hash: Hash) -> Vec<(Node, Hash)> {
        self.size += 1 << level;
        self.parts.push((level, hash));
        let mut complete = Vec::new();
        loop {
            let (level, hash) = self.parts[self.parts.len() - 1];
            let index = (self.size >> level) - 1;
            complete.push((Node { level, index }, hash));
            match self.parts[..self.parts.len() - 1].last() {
                Some((before, left)) if *before == level => {
                    let joined = node_hash(left, &hash);
                    self.parts.truncate(self.parts.len() - 2);
                    self.parts.push((level + 1, joined));
                }
                _ => return complete,
            }
        }
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let mut hashes = self.parts.iter().rev().map(|(_, hash)| *hash);
        match hashes.next() {
            None => empty_root(),
            Some(last) => hashes.fold(last, |right, left| node_hash(&left, &right)),
        }
    }
}

/// The parts of which the leaves from `from` up to `to` are made, in their order.
pub fn parts(mut from: u64, to: u64) -> Vec<Node> {
    let mut parts = Vec::new();
    while from < to {
        let most = (to - from).ilog2();
        let level = if from == 0 { most } else { from.trailing_zeros().min(most) };
        parts.push(Node {
            level,
            index: from >> level,
        });
        from += 1 << level;
    }
    parts
}

/// The same, with no part that has leaves on both sides of one of `boundaries`: so that the tree as it was then can be told from them.
pub fn prefix_parts(from: u64, to: u64, boundaries: &[u64]) -> Vec<Node> {
    let mut at: Vec<u64> = boundaries.iter().copied().filter(|at| (from + 1..to).contains(at)).collect();
    at.push(to);
    at.sort_unstable();
    let (mut all, mut begin) = (Vec::new(), from);
    for end in at {
        all.extend(parts(begin, end));
        begin = end;
    }
    all
}

// The largest power of two below `n`, for n > 1.
fn half(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

type Part<'a, E> = &'a mut dyn FnMut(Node) -> Result<Hash, E>;

// MTH of the leaves from `from` up to `to`, which begin where such a subtree may.
fn root_of<E>(from: u64, to: u64, part: Part<'_, E>) -> Result<Hash, E> {
    let mut hashes = Vec::new();
    for node in parts(from, to) {
        hashes.push(part(node)?);
    }
    let mut hashes = hashes.into_iter().rev();
    Ok(match hashes.next() {
        None => empty_root(),
        Some(last) => hashes.fold(last, |right, left| node_hash(&left, &right)),
    })
}

/// The audit path of leaf `leaf`, from 0, in the tree of the first `size` leaves (section 2.1.1). `part` says what hashes parts have.
pub fn inclusion<E>(leaf: u64, size: u64, part: Part<'_, E>) -> Result<Vec<Hash>, E> {
    let (mut from, mut to, mut path) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = from + half(to - from);
        if leaf < middle {
            path.push(root_of(middle, to, part)?);
            to = middle;
        } else {
            path.push(root_of(from, middle, part)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of the first `old` leaves is the beginning of that of the first `new` (section 2.1.2).
pub fn consistency<E>(old: u64, new: u64, part: Part<'_, E>) -> Result<Vec<Hash>, E> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut from, mut to, mut whole) = (0, new, true);
    while to != old {
        let middle = from + half(to - from);
        if old <= middle {
            proof.push(root_of(middle, to, part)?);
            to = middle;
        } else {
            proof.push(root_of(from, middle, part)?);
            from = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(root_of(from, to, part)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether a leaf with this hash is leaf `leaf` of the tree.
pub fn included(hash: &Hash, leaf: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if leaf >= size {
        return false;
    }
    let (mut place, mut last, mut at) = (leaf, size - 1, *hash);
    for step in path {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            at = node_hash(step, &at);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            at = node_hash(&at, step);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && at == *root
}

/// Whether the tree with the root `new_root` begins with the one that has `old_root`.
pub fn consistent(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let mut steps = proof.iter();
    // Where the old tree is a part of the new one, the proof begins with what is known.
    let first = if old.is_power_of_two() { Some(old_root) } else { steps.next() };
    let Some(first) = first else { return false };
    let (mut place, mut last) = (old - 1, new - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let (mut before, mut after) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            before = node_hash(step, &before);
            after = node_hash(step, &after);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            after = node_hash(&after, step);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && before == *old_root && after == *new_root
}
