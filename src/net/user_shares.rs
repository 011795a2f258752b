//! The turns of each user at a Unix socket: a user's callers wait for each other, and no user is
//! served as often at once as all users may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The users that are connected.
pub(super) struct UserShares {
    /// How many connections of one user are served at once.
    served: usize,
    users: Mutex<BTreeMap<Option<u32>, UserShare>>,
}

struct UserShare {
    connected: usize,
    served: Arc<Semaphore>,
}

/// One connection of a user. With the last one the user's share is gone.
pub(super) struct UserConnection {
    uid: Option<u32>,
    served: Arc<Semaphore>,
    shares: Arc<UserShares>,
}

impl UserShares {
    /// Returns shares of so many connections that are served at once.
    pub(super) fn new(served: usize) -> Arc<UserShares> {
        Arc::new(UserShares {
            served,
            users: Mutex::default(),
        })
    }

    /// Counts a connection of a user.
    pub(super) fn connect(self: &Arc<UserShares>, uid: Option<u32>) -> UserConnection {
        let mut users = self.users.lock();
        let share = users.entry(uid).or_insert_with(|| UserShare {
            connected: 0,
            served: Arc::new(Semaphore::new(self.served)),
        });
        share.connected += 1;
        UserConnection {
            uid,
            served: Arc::clone(&share.served),
            shares: Arc::clone(self),
        }
    }
}

impl UserConnection {
    /// Returns when this user may be served once more.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.served).acquire_owned().await.ok()
    }
}

impl Drop for UserConnection {
    fn drop(&mut self) {
        let mut users = self.shares.users.lock();
        if let Some(share) = users.get_mut(&self.uid) {
            share.connected -= 1;
            if share.connected == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_user_with_many_connections_leaves_turns_for_the_others_and_nothing_stays() {
        let shares = UserShares::new(2);
        let (greedy, other) = (Some(1_000), Some(1_001));
        let held: Vec<UserConnection> = (0..10).map(|_| shares.connect(greedy)).collect();
        let turns: Vec<_> = held
            .iter()
            .filter_map(|place| place.turn().now_or_never().flatten())
            .collect();
        assert_eq!(turns.len(), 2);
        let place = shares.connect(other);
        assert!(place.turn().now_or_never().flatten().is_some());
        // A turn that is over is the same user's.
        drop(turns);
        assert!(held[2].turn().now_or_never().flatten().is_some());
        drop((held, place));
        assert!(shares.users.lock().is_empty());
    }
}
