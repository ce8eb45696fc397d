// SPDX-License-Identifier: Apache-2.0
// What a CBOR item (RFC 8949) is made of, before a parser sees it: ours of JSON recurses once for each level of
// nesting, and makes an object of each item, whoever wrote them.
#pragma once

#include <cstddef>
#include <span>

namespace inox::snapshot {

struct CborLimits {
    std::size_t depth;
    std::size_t items; ///< in all, keys included
};

/// Whether the bytes are one item, whole, and nothing behind it, of whole numbers, texts, byte strings, arrays, maps
/// with texts as keys, true, false and null: all with their lengths in front, without tags. Does not recurse; its work
/// is that of the items it has seen.
[[nodiscard]] bool is_plain_cbor(std::span<const std::byte> bytes, CborLimits limits);

} // namespace inox::snapshot
