//! The tree against the known answers of RFC 6962's reference implementation, and against the RFC's own definition.

use std::convert::Infallible;

use crate::*;

const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn leaves(count: u64) -> Vec<Hash> {
    let known = LEAVES.iter().map(|leaf| hex::decode(leaf).unwrap());
    let more = (8..).map(|n: u64| n.to_be_bytes().to_vec());
    let count = usize::try_from(count).unwrap();
    known.chain(more).take(count).map(|leaf| leaf_hash(&leaf)).collect()
}

// MTH as section 2.1 defines it.
fn defined(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        more => {
            let (left, right) = more.split_at(1 << (more.len() - 1).ilog2());
            node_hash(&defined(left), &defined(right))
        }
    }
}

fn grown(leaves: &[Hash]) -> Frontier {
    let mut tree = Frontier::default();
    for leaf in leaves {
        tree.append(*leaf);
    }
    tree
}

fn part(leaves: &[Hash]) -> impl Fn(Node) -> Result<Hash, Infallible> + '_ {
    |node| {
        let begin = usize::try_from(node.index << node.level).unwrap();
        Ok(defined(&leaves[begin..begin + (1 << node.level)]))
    }
}

#[test]
fn roots_are_those_of_the_reference_implementation() {
    assert_eq!(
        hex::encode(empty_root()),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let leaves = leaves(8);
    for (size, root) in (1..).zip(ROOTS) {
        assert_eq!(hex::encode(grown(&leaves[..size]).root()), root, "{size}");
    }
}

#[test]
fn proofs_are_those_of_the_reference_implementation() {
    let leaves = leaves(8);
    let texts = |hashes: Vec<Hash>| hashes.iter().map(hex::encode).collect::<Vec<_>>();
    let path = |leaf, size| texts(inclusion(leaf, size, &mut |node| part(&leaves)(node)).unwrap());
    assert_eq!(
        path(0, 8),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
    assert_eq!(
        path(5, 8),
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
    let proof = |old, new| texts(consistency(old, new, &mut |node| part(&leaves)(node)).unwrap());
    assert_eq!(
        proof(6, 8),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
    assert_eq!(
        proof(2, 5),
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ]
    );
}

#[test]
fn a_tree_that_grows_is_the_one_that_is_defined_and_goes_on_from_its_parts() {
    let leaves = leaves(130);
    for size in 0..=130 {
        let tree = grown(&leaves[..size]);
        assert_eq!(tree.root(), defined(&leaves[..size]), "{size}");
        let hashes = parts(0, size as u64).into_iter().map(|node| part(&leaves)(node).unwrap()).collect();
        assert_eq!(Frontier::of(size as u64, hashes), Some(tree));
    }
    assert_eq!(Frontier::of(3, vec![[0; 32]]), None);
}

#[test]
fn every_leaf_is_proved_to_be_in_its_place_and_in_no_other() {
    let leaves = leaves(20);
    for size in 1..=20_u64 {
        let root = defined(&leaves[..usize::try_from(size).unwrap()]);
        for at in 0..size {
            let path = inclusion(at, size, &mut |node| part(&leaves)(node)).unwrap();
            let hash = leaves[usize::try_from(at).unwrap()];
            assert!(included(&hash, at, size, &path, &root));
            assert!(!included(&[9; 32], at, size, &path, &root));
            assert!(!included(&hash, at, size, &path, &[9; 32]));
            for other in (0..=size).filter(|other| *other != at) {
                assert!(!included(&hash, other, size, &path, &root), "{at} {other} {size}");
            }
            if !path.is_empty() {
                assert!(!included(&hash, at, size, &path[1..], &root));
            }
        }
    }
}

#[test]
fn every_beginning_is_proved_to_be_one_and_nothing_else_is() {
    let leaves = leaves(20);
    let root = |size: u64| defined(&leaves[..usize::try_from(size).unwrap()]);
    for new in 0..=20 {
        for old in 0..=new {
            let proof = consistency(old, new, &mut |node| part(&leaves)(node)).unwrap();
            assert!(consistent(old, &root(old), new, &root(new), &proof), "{old} {new}");
            assert!(!consistent(old, &[9; 32], new, &root(new), &proof), "{old} {new}");
            if old > 0 {
                assert!(!consistent(old, &root(old), new, &[9; 32], &proof), "{old} {new}");
                let longer = [&proof[..], &[[9; 32]]].concat();
                assert!(!consistent(old, &root(old), new, &root(new), &longer), "{old} {new}");
            }
            for step in 0..proof.len() {
                let mut changed = proof.clone();
                changed[step][0] ^= 1;
                assert!(!consistent(old, &root(old), new, &root(new), &changed), "{old} {new} {step}");
            }
            assert!(old == new || !consistent(new, &root(new), old, &root(old), &proof), "{old} {new}");
        }
    }
}

#[test]
fn parts_cover_what_is_asked_for_and_no_boundary_lies_within_one() {
    for from in 0..40_u64 {
        for to in from..40 {
            for boundary in [0, 1, 7, 16, 33] {
                let mut at = from;
                for node in prefix_parts(from, to, &[boundary]) {
                    assert_eq!(node.index << node.level, at);
                    let end = at + (1 << node.level);
                    assert!(boundary <= at || end <= boundary, "{from} {to} {boundary}");
                    at = end;
                }
                assert_eq!(at, to);
            }
        }
    }
}

#[test]
fn a_part_fits_only_where_one_can_begin() {
    let mut tree = Frontier::default();
    assert_eq!(tree.append_part(63, [1; 32]), None);
    assert_eq!(tree.append_part(64, [1; 32]), None);
    tree.append([1; 32]);
    assert_eq!(tree.append_part(1, [2; 32]), None);
    assert_eq!(tree.append_part(0, [2; 32]), Some(()));
    assert_eq!(tree.append_part(1, [3; 32]), Some(()));
    assert_eq!(tree.root(), node_hash(&node_hash(&[1; 32], &[2; 32]), &[3; 32]));
}
