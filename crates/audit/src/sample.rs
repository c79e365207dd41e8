//! An installation's audit journal made up from a number: for tests, and to measure how long a check takes.

use std::time::Duration;

use base::{CredentialId, ProductId, Role, SeededEntropy, Timestamp};
use seal::{DataKey, InstallationSigner, Signer};

use crate::export::{GapLine, Header, ProductHead, SignedHead, SignedProductHead};
use crate::{
    Decision, Digest, Draft, Frontier, Hash, HashKey, Node, Numbers, Object, Record, Statement, TreeHead, Who, node_hash, prefix_parts,
};

/// 2027-01-15, 08:00 UTC.
const BEGIN: Timestamp = Timestamp::from_secs(1_800_000_000);
/// Records concern one of so many products, or none.
const PRODUCTS: u64 = 3;

/// Two roles that sign.
#[derive(Debug)]
pub struct Sample {
    installation: InstallationSigner,
    vault: Signer,
    accounts: Signer,
    /// The records, in their order.
    pub lines: Vec<String>,
    leaves: Vec<Hash>,
}

impl Sample {
    /// So many records, the same each time for the same seed.
    pub fn of(records: u64, seed: u64) -> Self {
        let entropy = SeededEntropy::new(seed);
        let installation = InstallationSigner::generate(&entropy);
        let signer = |role| {
            let signer = Signer::generate(&entropy);
            let certificate = installation.certify(role, signer.public_key(), BEGIN, BEGIN.plus(Duration::from_secs(1 << 30)));
            signer.certified(certificate).expect("it is certified for its own key")
        };
        let (vault, accounts) = (signer(Role::Vault), signer(Role::Accounts));
        let key = HashKey::new(DataKey::generate(&entropy));
        let credential = CredentialId::generate(BEGIN, &entropy);
        let (mut lines, mut leaves, mut of_product) = (Vec::new(), Vec::new(), [0_u64; PRODUCTS as usize + 1]);
        let mut previous = [0; 32];
        for n in 0..records {
            // A product in runs of different length, so that parts of several sizes lie between.
            let product = (n / 5 + n / 7) % (PRODUCTS + 1);
            let place = &mut of_product[usize::try_from(product).unwrap_or(0)];
            *place += u64::from(product > 0);
            let draft = Draft {
                at: BEGIN.plus(Duration::from_millis(n)),
                role: Role::Warehouse,
                who: Who::Role(Role::Gateway),
                on_behalf: Some(credential),
                method: "/coffer.v1.Warehouse/DeleteTable".into(),
                object: Object::Name(format!("web/events_{n}")),
                request: Some(Digest::of(&n.to_be_bytes())),
                decision: Decision::Allowed,
                rule: "calls".into(),
                pass: Some([7; 16]),
                product: ProductId::new(product).ok(),
                count: 1,
            };
            let at = Numbers {
                number: n + 1,
                of_product: *place,
                previous,
            };
            let line = Record::new(&draft, at, &key).to_line();
            previous = crate::leaf_hash(line.as_bytes());
            leaves.push(previous);
            lines.push(line);
        }
        Self {
            installation,
            vault,
            accounts,
            lines,
            leaves,
        }
    }

    /// The same two roles, and records of which one was another.
    #[must_use]
    pub fn with_another_past(mut self) -> Self {
        if let (Some(line), Some(leaf)) = (self.lines.get_mut(2), self.leaves.get_mut(2)) {
            *line = line.replace("DeleteTable", "CreateTable");
            *leaf = crate::leaf_hash(line.as_bytes());
        }
        self
    }

    fn part(&self, node: Node) -> Hash {
        let begin = usize::try_from(node.index << node.level).unwrap_or(usize::MAX);
        let mut row = self.leaves[begin..begin + (1 << node.level)].to_vec();
        while row.len() > 1 {
            row = row.chunks(2).map(|two| node_hash(&two[0], &two[1])).collect();
        }
        row[0]
    }

    /// The head over the first `size` records, with both signatures.
    pub fn head(&self, size: u64) -> SignedHead {
        let mut tree = Frontier::default();
        for leaf in self.leaves.iter().take(usize::try_from(size).unwrap_or(usize::MAX)) {
            tree.append(*leaf);
        }
        let head = TreeHead {
            journal: TreeHead::journal_of(&self.installation.key()),
            size: tree.size(),
            root: tree.root(),
            at: BEGIN.plus(Duration::from_millis(size)),
        };
        SignedHead {
            vault: head.sign(&self.vault),
            accounts: head.sign(&self.accounts),
            head,
        }
    }

    /// The line of that head: what is kept.
    pub fn head_line(&self, size: u64) -> String {
        self.head(size).to_line(&self.installation.key())
    }

    /// The export of all, or of what concerns one product.
    pub fn export(&self, product: u64, boundaries: &[u64]) -> Vec<String> {
        let key = self.installation.key();
        let size = self.leaves.len() as u64;
        let mut export = vec![Header::new(&key, product, size).to_line()];
        let (mut from, mut count) = (0, 0);
        let gap = |export: &mut Vec<String>, from, to| {
            for node in prefix_parts(from, to, boundaries) {
                let line = GapLine {
                    at: node.index << node.level,
                    level: node.level,
                    hash: hex::encode(self.part(node)),
                };
                export.push(line.to_line());
            }
        };
        for (n, line) in (0..).zip(&self.lines) {
            if product == 0 || line.contains(&format!("\"product\":{product},")) {
                gap(&mut export, from, n);
                export.push(line.clone());
                (from, count) = (n + 1, count + 1);
            }
        }
        gap(&mut export, from, size);
        if product > 0 {
            let of = ProductHead {
                journal: TreeHead::journal_of(&key),
                product,
                count,
                size,
                at: self.head(size).head.at.as_micros(),
            };
            let vault = of.sign(&self.vault);
            export.push(SignedProductHead { of, vault }.to_line());
        }
        export.push(self.head_line(size));
        export
    }
}
