//! What users write; see helper
