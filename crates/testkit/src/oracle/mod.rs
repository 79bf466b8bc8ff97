//! The oracle filesystem: what push, mount and restore are judged by.
//!
//! **What it is.** A [`Tree`] that changes like a disk; an [`Oracle`] that keeps snapshots of trees and
//! answers the two read ports from them; [`disk`] that writes a tree to a real folder and compares the two;
//! [`differences`] between two readers; [`sample`] trees with every oddity.
//!
//! **What it may not do.** Share code with what it judges: only the nouns of `model`.
//!
//! **What always holds.** Answers follow the definitions in `model` word for word.
//!
//! **Where it is tested.** Beside the code, by being compared with a real disk.

mod compare;
mod content;
pub mod disk;
mod frozen;
mod reader;
pub mod sample;
#[cfg(test)]
mod tests;
mod tree;

pub use compare::{Leniency, differences};
pub use content::{BLOCK, Content};
pub use reader::{Calls, Oracle};
pub use tree::{Body, FileNo, Refused, Tree, TreeNode};
