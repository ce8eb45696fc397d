// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_check.hpp"

namespace inox {

template <> Result<void> HostCheck<ToyConfig>::check(const ToyConfig& toy, HostChecks& /*checks*/) {
    if (toy.colour == "invisible")
        return fail(Errc::not_found, "this host has no invisible toys", "choose another colour");
    return {};
}

} // namespace inox
