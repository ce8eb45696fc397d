// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/run_failure.hpp"

#include <cerrno>

#include "tests/catch.hpp"
#include "tests/fakes/vfio_tree.hpp"

namespace inox::machine_run_failure_test {

namespace {

bool holds(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

} // namespace

TEST_CASE("guest memory that the host cannot fill is told with the limits that apply") {
    const fakes::VfioTree host;
    host.file("proc/self/cgroup", "0::/vm\n");
    host.file("sys/fs/cgroup/vm/memory.max", "8388608\n");
    host.file("sys/fs/cgroup/vm/memory.current", "8388608\n");
    const auto ram = GuestMemory::create(16 * MiB, HugePages::none).value();
    const auto error = run_failure(1, "RIP 0x100", {EFAULT}, ram, host.root());
    CHECK(error.code == Errc::memory_unavailable);
    CHECK(holds(error.what, "vCPU 1"));
    CHECK(holds(error.what, "RIP 0x100"));
    CHECK(holds(error.hint, "/sys/fs/cgroup/vm/memory.max allows 8 MiB and 8 MiB are in use"));
    CHECK(holds(run_failure(0, "RIP 0", {EFAULT, Gpa{0x3000}}, ram, host.root()).what, "at address 0x3000"));
}

TEST_CASE(
    "a page that is missing behind a device's memory is no lack of memory, and other failures are told as they are") {
    const auto ram = GuestMemory::create(16 * MiB, HugePages::none).value();
    const auto device = run_failure(0, "RIP 0", {EFAULT, Gpa{0xc2000000}}, ram);
    CHECK(device.code == Errc::guest_entry_failed);
    CHECK(holds(device.what, "0xc2000000"));
    const auto other = run_failure(0, "RIP 0x7", {EINVAL}, ram);
    CHECK(other.code == Errc::guest_entry_failed);
    CHECK(other.sys_errno == EINVAL);
    CHECK(holds(other.what, "KVM_RUN failed at RIP 0x7"));
}

} // namespace inox::machine_run_failure_test
