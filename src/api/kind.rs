//! The four kinds and their names on the wire.

use std::fmt;

/// A kind of the group. Its number is part of the stored form: append, never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One version of a cluster image and its details.
    Image = 0,
    /// Owns its images.
    Repository = 1,
    /// Owns repositories; has managers.
    Organization = 2,
    /// A computed answer: the data of a list of images at one of three grains.
    DataPack = 3,
}

impl Kind {
    /// All kinds, each at the index of its number.
    pub const ALL: [Self; 4] = [Self::Image, Self::Repository, Self::Organization, Self::DataPack];

    /// `kind` on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "Image",
            Self::Repository => "Repository",
            Self::Organization => "Organization",
            Self::DataPack => "DataPack",
        }
    }

    /// `kind` of its list.
    #[must_use]
    pub fn list_name(self) -> &'static str {
        match self {
            Self::Image => "ImageList",
            Self::Repository => "RepositoryList",
            Self::Organization => "OrganizationList",
            Self::DataPack => "DataPackList",
        }
    }

    /// The resource's name in paths.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Repository => "repositories",
            Self::Organization => "organizations",
            Self::DataPack => "datapacks",
        }
    }

    /// The singular name in discovery.
    #[must_use]
    pub fn singular(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Repository => "repository",
            Self::Organization => "organization",
            Self::DataPack => "datapack",
        }
    }

    /// The short name in discovery.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Image => "img",
            Self::Repository => "repo",
            Self::Organization => "org",
            Self::DataPack => "dp",
        }
    }

    /// Whether there is a `/status` subresource.
    #[must_use]
    pub fn has_status_subresource(self) -> bool {
        matches!(self, Self::Repository | Self::Organization)
    }

    /// The kind whose [`name`](Self::name) is `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }

    /// The kind whose [`plural`](Self::plural) name is `plural`.
    #[must_use]
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.plural() == plural)
    }

    /// The kind of this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
