// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/words.hpp"

#include <cerrno>
#include <cstring>

#include "vmm/base/outside/outside.hpp"

namespace inox::api::firecracker {
namespace {

/// Firecracker's sentence for the error's code alone, or the text that the error has.
std::string sentence_of_code(Error& error) {
    if (error.code == Errc::cpus_invalid)
        return "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT is "
               "enabled.";
    if (error.code == Errc::memory_invalid)
        return "The memory size (MiB) is either 0, or not a multiple of the configured page size.";
    return std::move(error.what);
}

/// One operator for each detail that Firecracker has a sentence for.
struct Sentence {
    Error& error;

    std::string operator()(const SecondRootDisk&) const { return "A root block device already exists!"; }
    std::string operator()(const MacTaken& mac) const { return "The MAC address is already in use: " + mac.mac; }
    std::string operator()(const NoSuchInterface&) const {
        return "The list of network interface IDs provided contains at least one ID that does not correspond to any "
               "existing network interface.";
    }
    std::string operator()(const NoRoom& room) const {
        error.hint = error.what + ": " + error.hint;
        return room.pci ? "Could not find an available device slot on the PCI bus."
                        : "Could not allocate GSI: The requested resource is not available.";
    }
    std::string operator()(const NoKernel&) const { return "Cannot start microvm without kernel configuration."; }
    std::string operator()(const PciOff&) const { return "PCI is not enabled"; }
    std::string operator()(const NoDevice&) const {
        if (error.hint.empty())
            error.hint = error.what;
        return "Device not found";
    }
    std::string operator()(const IdTaken&) const { return "Device ID in use"; }
    std::string operator()(const MetricsStarted&) const {
        return "Cannot initialize the metrics system due to bad user input: Reinitialization of metrics not allowed.";
    }
    std::string operator()(const auto& /*other*/) const { return sentence_of_code(error); }
};

} // namespace

Error in_words(Error error) {
    error.what = std::visit(Sentence{error}, error.detail);
    return error;
}

std::string os_error(const Error& error) {
    const int number = error.sys_errno == outside::refused      ? EACCES
                       : error.sys_errno == outside::gone       ? EPIPE
                       : error.sys_errno == outside::unanswered ? ETIMEDOUT
                                                                : error.sys_errno;
    return std::string{std::strerror(number)} + " (os error " + std::to_string(number) + ")";
}

} // namespace inox::api::firecracker
