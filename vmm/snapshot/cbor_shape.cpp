// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/cbor_shape.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace inox::snapshot {
namespace {

enum Major : unsigned { number = 0, negative = 1, byte_string = 2, text = 3, array = 4, map = 5, simple = 7 };

struct Head {
    unsigned major;
    std::uint64_t value;
    unsigned info;
};

/// Takes it from the front.
std::optional<Head> take_head(std::span<const std::byte>& bytes) {
    if (bytes.empty())
        return std::nullopt;
    const auto first = std::to_integer<unsigned>(bytes.front());
    bytes = bytes.subspan(1);
    Head head{first >> 5, first & 31U, first & 31U};
    if (head.info < 24)
        return head;
    if (head.info > 27) // reserved, or without a length
        return std::nullopt;
    const std::size_t size = std::size_t{1} << (head.info - 24);
    if (bytes.size() < size)
        return std::nullopt;
    head.value = 0;
    for (std::size_t i = 0; i < size; ++i)
        head.value = head.value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
    bytes = bytes.subspan(size);
    return head;
}

struct Level {
    std::uint64_t left; ///< items
    bool keys;          ///< of a map: an item is a key when the number left is even
};

} // namespace

bool is_plain_cbor(std::span<const std::byte> bytes, CborLimits limits) {
    constexpr unsigned simple_false = 20;
    constexpr unsigned simple_null = 22;
    std::vector<Level> open{{1, false}};
    std::size_t items = 0;
    for (;;) {
        while (!open.empty() && open.back().left == 0)
            open.pop_back();
        if (open.empty())
            return bytes.empty();
        const bool key = open.back().keys && open.back().left % 2 == 0;
        const auto head = take_head(bytes);
        if (!head || ++items > limits.items || (key && head->major != text))
            return false;
        --open.back().left;
        switch (head->major) {
        case number:
        case negative:
            break;
        case byte_string:
        case text:
            if (head->value > bytes.size())
                return false;
            bytes = bytes.subspan(head->value);
            break;
        case array:
        case map:
            // Each item takes a byte at least.
            if (head->value > bytes.size() || open.size() > limits.depth)
                return false;
            open.push_back({head->major == map ? 2 * head->value : head->value, head->major == map});
            break;
        case simple:
            if (head->info < simple_false || head->info > simple_null)
                return false;
            break;
        default:
            return false;
        }
    }
}

} // namespace inox::snapshot
