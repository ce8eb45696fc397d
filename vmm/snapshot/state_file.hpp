// SPDX-License-Identifier: Apache-2.0
// The file that holds a machine's state: a header of fixed size, and behind it one CBOR map. Its keys are the names of
// parts, its values arrays of two: the XXH64 of a byte string, and the byte string, which is the part's own CBOR. So
// any CBOR tool reads it (docs/snapshot.md), and damage is found before a parser sees it. Nobody vouches for such a
// file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox::snapshot {

/// Little-endian: magic (8 bytes), format (4), size of the header (4), bytes behind it (8), their XXH64 (8), zero (24),
/// XXH64 of all before (8).
inline constexpr std::size_t header_size = 64;
inline constexpr std::string_view magic = "INOXSNAP";
inline constexpr std::uint32_t format = 1;
/// Of the whole file.
inline constexpr std::size_t most_bytes = 64UL << 20;

/// `parts`: an object; each member is a part.
[[nodiscard]] std::vector<std::byte> encode(const nlohmann::json& parts);
/// A file with one part, whose bytes are these: for tests.
[[nodiscard]] std::vector<std::byte> wrap(std::string_view part, std::span<const std::byte> bytes);
/// snapshot_invalid, with what is wrong.
Result<nlohmann::json> decode(std::span<const std::byte> bytes);
/// Reads and decodes an open file; `path` for errors. snapshot_missing, snapshot_invalid.
Result<nlohmann::json> read_state(int file, const char* path);

} // namespace inox::snapshot
