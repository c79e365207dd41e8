//! Who may look at what was set aside: a page is large, so only few are in memory at the same time.
//!
//! Promise: what one product looks at keeps no other out, as it has one turn at a time.
//!
//! Does not know what a page is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{ErrorKind, ProductId};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::errors::ApiError;

/// Pages that are in memory at the same time: sealed, opened and as an answer, each may take some hundred MiB.
const AT_ONCE: usize = 2;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// The turns of all products.
pub(crate) struct Pages {
    all: Arc<Semaphore>,
    /// One for each product that has its turn or waits for it.
    products: Mutex<HashMap<ProductId, Arc<Semaphore>>>,
}

/// The right to have a page in memory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _both: [OwnedSemaphorePermit; 2],
}

impl Pages {
    pub(crate) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_ONCE)),
            products: Mutex::default(),
        }
    }

    /// Waits for a turn of this product.
    pub(crate) async fn turn(&self, product: ProductId) -> Result<Turn, ApiError> {
        self.turn_within(product, PATIENCE).await
    }

    async fn turn_within(&self, product: ProductId, patience: Duration) -> Result<Turn, ApiError> {
        let own = self.of(product);
        let both = async {
            // Its own first: whoever waits for that holds nothing that others wait for.
            let own = own.acquire_owned().await?;
            let all = Arc::clone(&self.all).acquire_owned().await?;
            Ok::<_, AcquireError>(Turn { _both: [own, all] })
        };
        match tokio::time::timeout(patience, both).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(ApiError::of(ErrorKind::TooMuch)),
        }
    }

    fn of(&self, product: ProductId) -> Arc<Semaphore> {
        let mut products = self.products.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has a turn or waits for one has a share in it.
        products.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(products.entry(product).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn however_much_one_product_looks_at_others_have_their_turn() {
        let pages = Pages::new();
        let turn = async |number| pages.turn_within(ProductId::new(number).unwrap(), Duration::from_millis(1)).await;
        let refused = |turn: Result<Turn, ApiError>| turn.unwrap_err().status().as_u16();
        let first = turn(1).await.unwrap();
        assert_eq!(refused(turn(1).await), 429, "one at a time");
        let other = turn(2).await.unwrap();
        assert_eq!(refused(turn(3).await), 429, "and few in all");
        drop(first);
        drop(turn(1).await.unwrap());
        drop(other);
        drop(turn(3).await.unwrap());
        assert_eq!(pages.products.lock().unwrap().len(), 1, "those that are over are forgotten");
    }
}
