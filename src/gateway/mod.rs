//! What the doors that are not kube's have in common: who asks and what they demand, what one request reads, the lists
//! of the catalogue and their pages, whole answers that are kept, and how a write is decided under clean names.
//!
//! Nothing here knows a form on the wire: GraphQL and REST each say the same in their own.

mod app;
mod catalog;
mod coding;
mod facets;
mod kept;
mod page;
mod quota;
mod rate;
mod request;
#[cfg(test)]
pub(crate) mod testing;
mod view;
mod work;
mod write;

pub use app::App;
pub use catalog::{
    FILTER_VALUES, Found, ImageFilter, ImageQuery, Order, OrderField, RepositoryFilter, RepositoryQuery, Suggested,
    image_passes, keywords_of, repository_passes, suggest,
};
pub use coding::{COMPRESS_FROM, Coding, is_tag};
pub use facets::{Facet, FacetField, Facets};
pub(crate) use kept::tag_value;
pub use kept::{ANSWER_BYTES, Answer, AnswerStats, Answers, Key, LARGEST_ANSWER, Question};
pub use page::{LONGEST_CURSOR, LONGEST_PAGE, PAGE, Page, PageArgs, images, organizations, repositories, tags};
pub use quota::{ANONYMOUS_PACKS, Quota};
pub use rate::{ANONYMOUS_SHARE, CLIENTS, MOST_REQUESTS, REQUESTS, Rate, Rates, TooMany};
pub use request::{
    BODY_LIMIT, BODY_TIME, MIN_REVISION, Origins, REVISION, REVISION_DIGITS, SEARCH_REVISION, USUAL_HEADERS, VARY_KEPT,
    VARY_OTHERS, accepted, are_tags, caller, names_tag, reach, reach_search, read_body,
};
pub use view::{Clock, Reads, View};
pub use work::{LIGHT, LOOKS, ROUNDS, TEXT_BYTES};
pub use write::{
    Applied, Change, Expects, Find, Make, Outcome, Plan, Tally, Writing, packs_of_image, packs_of_repository,
};
