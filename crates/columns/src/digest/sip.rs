//! SipHash with 128 bits (Aumasson and Bernstein, 2012), of many short messages at once, each made of whole words.
//!
//! Promise: without the key nobody can tell the hashes from random numbers, and so not choose messages of the same hash. The four words
//! of the states stand apart, so that the compiler works on several messages at a time where each gets a word.

/// How many messages are hashed at once.
pub(super) const LANES: usize = 256;

/// Messages on their way, each with `C` rounds for a word and `D` at its end.
pub(super) struct Lanes<const C: usize, const D: usize> {
    begin: State,
    a: [u64; LANES],
    b: [u64; LANES],
    c: [u64; LANES],
    d: [u64; LANES],
}

type State = [u64; 4];

impl<const C: usize, const D: usize> Lanes<C, D> {
    /// Empty messages under a key.
    pub(super) fn new(key: [u64; 2]) -> Self {
        let begin = [
            key[0] ^ 0x736f_6d65_7073_6575,
            key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            key[0] ^ 0x6c79_6765_6e65_7261,
            key[1] ^ 0x7465_6462_7974_6573,
        ];
        let mut lanes = Self {
            begin,
            a: [0; LANES],
            b: [0; LANES],
            c: [0; LANES],
            d: [0; LANES],
        };
        lanes.begin();
        lanes
    }

    /// Empty messages once more.
    pub(super) fn begin(&mut self) {
        let [a, b, c, d] = self.begin;
        self.a.fill(a);
        self.b.fill(b);
        self.c.fill(c);
        self.d.fill(d);
    }

    /// The next word of each message, from the first one on.
    pub(super) fn each(&mut self, words: impl Iterator<Item = u64>) {
        let states = self.a.iter_mut().zip(&mut self.b).zip(&mut self.c).zip(&mut self.d);
        for ((((a, b), c), d), word) in states.zip(words) {
            let mut state = [*a, *b, *c, *d];
            take::<C>(&mut state, word);
            [*a, *b, *c, *d] = state;
        }
    }

    /// The next word of one message.
    pub(super) fn one(&mut self, lane: usize, word: u64) {
        let mut state = self.state(lane);
        take::<C>(&mut state, word);
        self.put(lane, state);
    }

    /// A word, then bytes of which that word says how many there are.
    pub(super) fn one_text(&mut self, lane: usize, word: u64, bytes: &[u8]) {
        let mut state = self.state(lane);
        take::<C>(&mut state, word);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            take::<C>(&mut state, u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            take::<C>(&mut state, last(bytes, rest));
        }
        self.put(lane, state);
    }

    /// The hashes of the first `count` messages. Afterwards all are to be begun again.
    pub(super) fn end(&mut self, count: usize, mut hash: impl FnMut(usize, u128)) {
        for lane in 0..count.min(LANES) {
            let mut state = self.state(lane);
            state[2] ^= 0xee;
            rounds::<D>(&mut state);
            let low = state.iter().fold(0, |all, word| all ^ word);
            state[1] ^= 0xdd;
            rounds::<D>(&mut state);
            let high = state.iter().fold(0, |all, word| all ^ word);
            hash(lane, u128::from(low) | u128::from(high) << 64);
        }
    }

    fn state(&self, lane: usize) -> State {
        [self.a[lane], self.b[lane], self.c[lane], self.d[lane]]
    }

    fn put(&mut self, lane: usize, state: State) {
        [self.a[lane], self.b[lane], self.c[lane], self.d[lane]] = state;
    }
}

#[inline(always)]
fn take<const ROUNDS: usize>(state: &mut State, word: u64) {
    state[3] ^= word;
    rounds::<ROUNDS>(state);
    state[0] ^= word;
}

#[inline(always)]
fn rounds<const ROUNDS: usize>(state: &mut State) {
    let [mut a, mut b, mut c, mut d] = *state;
    for _ in 0..ROUNDS {
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
    }
    *state = [a, b, c, d];
}

/// The fewer than eight bytes at the end of a text as a word.
#[inline(always)]
fn last(bytes: &[u8], rest: &[u8]) -> u64 {
    match bytes.last_chunk::<8>() {
        // One load, and those before them are shifted out.
        Some(end) => u64::from_le_bytes(*end) >> (64 - 8 * rest.len()),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message as the paper pads it.
    fn padded(bytes: &[u8]) -> Vec<u64> {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len() / 8 * 8 + 7, 0);
        padded.push(bytes.len() as u8);
        padded.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
    }

    #[test]
    fn it_is_the_hash_of_the_paper() {
        // From the vectors that its authors publish for SipHash-2-4 with 128 bits: the key 00, 01 ... 0f, messages 00, 01 ... so long.
        let known = [
            (0, "a3817f04ba25a8e66df67214c7550293"),
            (1, "da87c1d86b99af44347659119b22fc45"),
            (2, "8177228da4a45dc7fca38bdef60affe4"),
        ];
        let bytes: Vec<u8> = (0..16).collect();
        let key = [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()));
        for (length, expected) in known {
            let mut lanes = Lanes::<2, 4>::new(key);
            // In all lanes, and in one of them alone.
            for word in padded(&bytes[..length]) {
                lanes.each((0..LANES).map(|_| word));
            }
            let mut found = Vec::new();
            lanes.end(LANES, |_, hash| found.push(hex(&hash.to_le_bytes())));
            assert_eq!(found, vec![expected; LANES]);
            lanes.begin();
            for word in padded(&bytes[..length]) {
                lanes.one(7, word);
            }
            let mut found = Vec::new();
            lanes.end(8, |_, hash| found.push(hex(&hash.to_le_bytes())));
            assert_eq!(found[7], expected);
        }
    }

    #[test]
    fn a_text_is_its_words() {
        for length in 0..40 {
            let text: Vec<u8> = (1..=length).collect();
            let mut lanes = Lanes::<1, 3>::new([1, 2]);
            lanes.one_text(0, 99, &text);
            lanes.one(1, 99);
            for part in text.chunks(8) {
                let mut word = [0; 8];
                word[..part.len()].copy_from_slice(part);
                lanes.one(1, u64::from_le_bytes(word));
            }
            let mut found = Vec::new();
            lanes.end(2, |_, hash| found.push(hash));
            assert_eq!(found[0], found[1], "{length}");
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
