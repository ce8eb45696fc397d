// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/recording_mapper.hpp"

#include <stdexcept>

namespace inox::fakes {

Result<void> RecordingMapper::map(IovaRange range, std::span<std::byte> host, Access access) {
    ++maps;
    if (on_call)
        on_call();
    if (fails && fails())
        return fail(failure, "map failed as told");
    if (host.size() != range.size())
        throw std::logic_error{"host bytes and range differ in size"};
    for (const auto& [start, one] : held)
        if (one.range.overlaps(range))
            return fail(Errc::already_exists, "overlap");
    if (held.size() >= most)
        return fail(Errc::no_resource, "too many mappings");
    held.emplace(range.start().raw(), Held{range, host.data(), access});
    return {};
}

Result<void> RecordingMapper::unmap(IovaRange range) {
    ++unmaps;
    if (on_call)
        on_call();
    if (fails && fails())
        return fail(failure, "unmap failed as told");
    for (const auto& [start, one] : held)
        if (one.range.overlaps(range) && !range.contains(one.range))
            return fail(Errc::host_error, "the range cuts a mapping");
    std::erase_if(held, [&](const auto& entry) { return range.contains(entry.second.range); });
    return {};
}

} // namespace inox::fakes
