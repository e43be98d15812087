//! Pages of a list with what is not in the database yet; pure.

use std::cmp::{Ordering, Reverse};

use crate::positions::store::{PositionListQuery, ProgressCursor};
use crate::positions::{PositionRecord, ProgressPage};

/// Adds `dirty` positions of the listing's user to a page of the database: each takes the place of its row, and stands
/// where its own time puts it.
pub fn merge(listing: &PositionListQuery<'_>, page: ProgressPage, dirty: Vec<PositionRecord>) -> ProgressPage {
    let ProgressPage { mut entries, next } = page;
    entries.retain(|row| !dirty.iter().any(|dirty| dirty.key == row.key && dirty.updated_at >= row.updated_at));
    let is_newer_there = |record: &PositionRecord| entries.iter().any(|row| row.key == record.key);
    let is_wanted = |record: &PositionRecord| {
        record.position.is_some()
            && listing.kind.is_none_or(|kind| kind == record.key.kind)
            && listing.after.is_none_or(|after| is_behind(record, after))
            // What is behind the page's end comes with the next one.
            && next.as_ref().is_none_or(|end| !is_behind(record, end))
            && !is_newer_there(record)
    };
    let more: Vec<PositionRecord> = dirty.into_iter().filter(is_wanted).collect();
    entries.extend(more);
    entries.sort_by(|one, other| order(one).cmp(&order(other)));
    ProgressPage { entries, next }
}

type ListOrder<'a> = (Reverse<i64>, &'a str, &'a str);

fn order(record: &PositionRecord) -> ListOrder<'_> {
    (Reverse(record.updated_at.as_millis()), record.key.kind.name(), record.key.item.as_str())
}

fn is_behind(record: &PositionRecord, cursor: &ProgressCursor) -> bool {
    order(record).cmp(&cursor.order()) == Ordering::Greater
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::{ItemKind, PositionKey};
    use primitives::ids::{TrackId, UserId};
    use primitives::unix_time::UnixMillis;

    fn record(item: &str, at: i64, position: Option<i64>) -> PositionRecord {
        let (user, item) = (UserId::parse("u").expect("an id"), TrackId::parse(item).expect("an id"));
        let at = UnixMillis::new(at);
        let key = PositionKey { user, kind: ItemKind::Film, item };
        PositionRecord { key, position, duration: None, updated_at: at, reported_at: at }
    }

    fn listed(after: Option<&PositionRecord>, rows: Vec<PositionRecord>, is_whole: bool) -> Vec<(String, i64)> {
        let user = UserId::parse("u").expect("an id");
        let after = after.map(ProgressCursor::after);
        let listing = PositionListQuery {
            user: &user,
            kind: None,
            after: after.as_ref(),
            reported_since: UnixMillis::EPOCH,
            limit: 2,
        };
        let next = rows.last().filter(|_| !is_whole).map(ProgressCursor::after);
        let dirty = vec![
            record("b", 35, Some(2)),
            record("new", 15, Some(3)),
            record("cleared", 50, None),
            record("stale", 1, Some(9)),
        ];
        let merged = merge(&listing, ProgressPage { entries: rows, next }, dirty);
        merged.entries.iter().map(|row| (row.key.item.as_str().to_owned(), row.updated_at.as_millis())).collect()
    }

    #[test]
    fn what_is_not_in_the_database_yet_stands_where_its_time_puts_it() {
        let first = vec![record("cleared", 40, Some(1)), record("a", 30, Some(1))];
        let end = record("a", 30, Some(1));
        let text = |items: &[(&str, i64)]| items.iter().map(|(item, at)| ((*item).to_owned(), *at)).collect::<Vec<_>>();
        assert_eq!(listed(None, first, false), text(&[("b", 35), ("a", 30)]));
        let second = vec![record("b", 20, Some(1)), record("stale", 10, Some(1))];
        assert_eq!(listed(Some(&end), second, true), text(&[("new", 15), ("stale", 10)]));
    }
}
