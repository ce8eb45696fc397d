// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_speed.hpp"

#include <chrono>
#include <csignal>
#include <unistd.h>

#include "tests/catch.hpp"
#include "vmm/host/host_report.hpp"

namespace inox::host_speed_test {

TEST_CASE("a KVM interprets where the CPU has neither VMX nor SVM and the guest is slow") {
    CHECK(interprets(false, 0.4));
    CHECK_FALSE(interprets(false, 3000)); // neither VMX nor SVM, and yet runs on the CPU
    CHECK_FALSE(interprets(true, 0.4));   // only a busy or nested host
    CHECK_FALSE(interprets(true, 3000));
    CHECK_FALSE(interprets(false, std::nullopt)); // no guest ran
}

TEST_CASE("whether this KVM interprets has one answer, and is measured once") {
    const bool answer = kvm_interprets();
    CHECK(answer == inspect_kvm({}).interpreting);
    CHECK((!answer || !cpu_has_vmx_or_svm()));
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 1000; ++i)
        CHECK(kvm_interprets() == answer);
    // A measurement takes more than 10 ms, so the answer must be kept.
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds{5});
}

TEST_CASE("the speed of this machine's KVM is measured in bounded time, also with SIGALRM blocked") {
    if (::access("/dev/kvm", R_OK | W_OK) != 0) {
        WARN("skipped: no usable /dev/kvm");
        return;
    }
    sigset_t alarm, before, after;
    ::sigemptyset(&alarm);
    ::sigaddset(&alarm, SIGALRM);
    ::pthread_sigmask(SIG_BLOCK, &alarm, &before);
    const auto start = std::chrono::steady_clock::now();
    const auto kvm = inspect_kvm({});
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds{5});
    ::pthread_sigmask(SIG_SETMASK, &before, &after);
    CHECK(::sigismember(&after, SIGALRM) == 1);
    REQUIRE(kvm.million_instructions_per_second);
    CHECK(*kvm.million_instructions_per_second > 0.01);
    CHECK(kvm.usable);
}

} // namespace inox::host_speed_test
