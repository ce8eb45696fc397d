// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/descriptors_needed.hpp"

#include <cerrno>
#include <sys/resource.h>

#include "vmm/machine/device_maker.hpp"

namespace inox {
namespace {

constexpr std::size_t process = 16; // counted in /proc/PID/fd, like virtio_descriptors()
constexpr std::size_t api = 16;     // its loop, its socket, some clients

} // namespace

std::size_t descriptors_needed(const ConfigFile& file) {
    const auto& config = file.config;
    std::size_t sum = process + config.machine.cpus + (file.api.socket.empty() ? 0 : api);
    for (const auto& device : config.devices)
        sum += std::visit([]<class Options>(const Options& one) { return Maker<Options>::descriptors(one); }, device);
    return sum;
}

Error with_descriptor_limit(Error error, const ConfigFile& file) {
    rlimit limit{};
    if (error.sys_errno != EMFILE || ::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return error;
    error.code = Errc::host_error;
    error.hint = format("raise the limit on open files: ulimit -n allows %llu, and this machine needs about %zu",
                        static_cast<unsigned long long>(limit.rlim_cur), descriptors_needed(file));
    return error;
}

} // namespace inox
