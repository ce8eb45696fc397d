// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/capabilities.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "vmm/base/bytes.hpp"

namespace inox::devices::vfio {
namespace {

constexpr std::size_t header_size = 8;               // id u16, version u16, next u32
constexpr std::uint32_t largest_answer = 256 * 1024; // far more than any list of ranges needs

} // namespace

std::vector<InfoCapability> info_capabilities(std::span<const std::byte> answer, std::uint32_t first) {
    std::vector<InfoCapability> found;
    std::size_t at = first;
    while (at != 0 && at <= answer.size() && answer.size() - at >= header_size) {
        const auto header = answer.subspan(at);
        found.push_back({load_le<std::uint16_t>(header), header.subspan(header_size)});
        const auto next = load_le<std::uint32_t>(header.subspan(4));
        if (next <= at)
            break;
        at = next;
    }
    return found;
}

std::vector<std::byte> ask_with_capabilities(std::size_t base_size, std::span<const std::byte> start,
                                             const std::function<int(std::span<std::byte>)>& ask, int& error) {
    std::vector<std::byte> answer(base_size);
    for (int attempt = 0; attempt < 4; ++attempt) {
        std::ranges::fill(answer, std::byte{0});
        std::ranges::copy(start.first(std::min(start.size(), answer.size())), answer.begin());
        store_le(std::span{answer}.first(4), answer.size());
        error = ask(answer);
        if (error < 0)
            return {};
        const auto needed = load_le<std::uint32_t>(std::span{answer}.first(4));
        if (needed <= answer.size())
            return answer;
        if (needed > largest_answer)
            break;
        answer.resize(needed);
    }
    error = -E2BIG;
    return {};
}

} // namespace inox::devices::vfio
