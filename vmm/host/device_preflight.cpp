// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/device_preflight.hpp"

#include <algorithm>

#include "vmm/host/host_check.hpp"

namespace inox {

std::vector<Error> device_preflight(const Config& config, std::span<const Error> known) {
    std::vector<Error> problems;
    HostChecks checks;
    for (const auto& [device, where] : placed_devices(config)) {
        const auto prefix = where.substr(0, where.rfind('/') + 1);
        checks.whole = std::ranges::none_of(known, [&](const Error& one) { return one.where.starts_with(prefix); });
        auto checked = std::visit(
            [&]<class Options>(const Options& one) { return HostCheck<Options>::check(one, checks); }, *device);
        if (checked)
            continue;
        problems.push_back(std::move(checked).error());
        problems.back().where = where;
    }
    return problems;
}

} // namespace inox
