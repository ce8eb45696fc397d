// SPDX-License-Identifier: Apache-2.0
// The state that XSAVE manages: what a guest is told of it, what survives exits, pauses and other guests, and what KVM
// gives and takes. In the lab from QEMU 10.0 on; a CPU without AVX cannot show it.
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "tests/catch.hpp"
#include "tests/support/process.hpp"
#include "vmm/kvm/vm.hpp"

namespace {

using tests::Outcome;
using tests::run_process;

constexpr int skipped = 77;
constexpr std::uint32_t avx_leaf1 = 1U << 28 | 1U << 26; // AVX and XSAVE (SDM volume 2, CPUID leaf 1, ECX)
constexpr std::uint32_t avx_components = 7;              // XCR0: x87, SSE, AVX (SDM volume 1, 13.3)
constexpr std::size_t header_offset = 512, avx_offset = 576, size_with_avx = 832; // SDM volume 1, 13.4

/// The CPU that KVM can give a guest; without AVX the process ends, and says so.
std::vector<kvm_cpuid_entry2> cpu_with_avx(const Kvm& kvm) {
    auto entries = kvm.supported_cpuid();
    REQUIRE(entries);
    for (const auto& entry : *entries)
        if (entry.function == 1 && (entry.ecx & avx_leaf1) == avx_leaf1)
            return *entries;
    std::puts("skipped: KVM offers no AVX here; the lab's CPU has it from QEMU 10.0 on (INOX_LAB_QEMU=11.1)");
    std::exit(skipped);
}

Kvm open_kvm() {
    auto kvm = Kvm::open();
    REQUIRE(kvm);
    return std::move(*kvm);
}

std::vector<std::string> guest(std::vector<std::string> more = {}) {
    std::vector<std::string> words{INOX_PROGRAM, "run", "--kernel",  std::string{INOX_GUESTS} + "/avx",
                                   "--memory",   "16M", "--timeout", "200s"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

} // namespace

TEST_CASE("a guest's AVX state and its CPUID hold over exits, pauses, and another guest on the same CPU") {
    (void)cpu_with_avx(open_kvm());
    const auto socket = "/tmp/avx-" + std::to_string(::getpid());
    std::array<Outcome, 2> ended;
    {
        const std::jthread paused{[&] {
            ended[0] = run_process(guest({"--api-sock", socket}), {.limit = std::chrono::minutes{4}});
        }};
        const std::jthread beside{[&] { ended[1] = run_process(guest(), {.limit = std::chrono::minutes{4}}); }};
        int pauses = 0;
        const auto ask = [&](const char* what) { return run_process({INOX_PROGRAM, "ctl", "-s", socket, what}).code; };
        for (int tries = 0; pauses < 3 && tries < 400; ++tries) {
            if (std::filesystem::exists(socket) && ask("pause") == 0) {
                CHECK(ask("resume") == 0);
                ++pauses;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds{20});
        }
        CHECK(pauses == 3);
    }
    for (const auto& outcome : ended) {
        INFO("43: the guest sees no AVX; another number: that check of avx.S failed. " << outcome.out << outcome.err);
        CHECK(outcome.code == 42);
        CHECK(outcome.out.find('r') != std::string::npos);
    }
}

namespace {

// In C++ the kernel's structure is larger than in C, and so are the numbers that carry its size
constexpr unsigned long get_xsave2 = 0x9000aecf, set_xsave = 0x5000aea5;

/// The vCPU's XSAVE area, as large as KVM says.
class Area {
public:
    explicit Area(int size) : bytes_(static_cast<std::size_t>(size)) {}
    std::byte* data() { return bytes_.data(); }
    std::span<std::byte> at(std::size_t offset, std::size_t size) { return std::span{bytes_}.subspan(offset, size); }
    std::span<std::byte> low(std::size_t ymm) { return at(160 + 16 * ymm, 16); }
    std::span<std::byte> high(std::size_t ymm) { return at(avx_offset + 16 * ymm, 16); }
    std::span<std::byte> components() { return at(header_offset, 8); }

private:
    std::vector<std::byte> bytes_;
};

void fill(std::span<std::byte> bytes, unsigned first) {
    for (auto& byte : bytes)
        byte = static_cast<std::byte>(first++);
}

bool same(std::span<const std::byte> one, std::span<const std::byte> other) { return std::ranges::equal(one, other); }

/// A vCPU in flat 32-bit mode with AVX on, at `start`. Its class has no snapshots, hence the descriptor besides.
struct Machine {
    Machine(const Kvm& kvm, std::span<const kvm_cpuid_entry2> cpuid, Gpa start)
        : memory{*GuestMemory::create(4 << 20, HugePages::none)}, vm{*Vm::create(kvm, memory)} {
        UniqueFd created{::ioctl(vm->fd(), KVM_CREATE_VCPU, 0UL)};
        fd = created.get();
        const auto size = static_cast<std::size_t>(::ioctl(kvm.fd(), KVM_GET_VCPU_MMAP_SIZE, 0UL));
        vcpu.emplace(0U, std::move(created), *Mapping::create(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        REQUIRE(vcpu->set_cpuid(cpuid));
        auto sregs = *vcpu->sregs();
        const auto flat = [](std::uint8_t type) {
            kvm_segment segment{};
            segment.limit = 0xffff'ffff;
            segment.type = type;
            segment.present = segment.db = segment.s = segment.g = 1;
            return segment;
        };
        sregs.cs = flat(11);
        sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = flat(3);
        sregs.cr0 |= 1;                  // PE
        sregs.cr4 |= 1U << 9 | 1U << 18; // OSFXSR, OSXSAVE
        REQUIRE(vcpu->set_sregs(sregs));
        kvm_regs regs{};
        regs.rip = start.raw();
        regs.rflags = 2;
        REQUIRE(vcpu->set_regs(regs));
        kvm_xcrs xcrs{};
        xcrs.nr_xcrs = 1;
        xcrs.xcrs[0].value = avx_components;
        REQUIRE(::ioctl(fd, KVM_SET_XCRS, &xcrs) == 0);
    }

    GuestMemory memory;
    std::unique_ptr<Vm> vm;
    std::optional<Vcpu> vcpu{};
    int fd{-1};
};

} // namespace

TEST_CASE("KVM's XSAVE area is as large as CPUID says, and goes into a guest's registers and out of them") {
    const auto kvm = open_kvm();
    const auto cpuid = cpu_with_avx(kvm);
    const int size = kvm.check(KVM_CAP_XSAVE2);
    REQUIRE(size >= 4096); // KVM_GET_XSAVE's own
    for (const auto& entry : cpuid)
        if (entry.function == 0xd && entry.index == 0) {
            CHECK((entry.eax & avx_components) == avx_components);
            CHECK(entry.ecx >= size_with_avx);
            CHECK(static_cast<std::uint32_t>(size) >= entry.ecx);
        }

    constexpr Gpa start{0x1000}, found{0x2000}, given{0x2020};
    Machine machine{kvm, cpuid, start};
    constexpr std::array<std::uint8_t, 18> code{0xc5, 0xfc, 0x11, 0x05, 0x00, 0x20, 0, 0, // vmovups %ymm0, found
                                                0xc5, 0xfc, 0x10, 0x0d, 0x20, 0x20, 0, 0, // vmovups given, %ymm1
                                                0xe6, 0x10};                              // out %al, $0x10
    std::array<std::byte, 32> pattern{}, seen{};
    fill(pattern, 1);
    REQUIRE(machine.memory.write(start, std::as_bytes(std::span{code})));
    REQUIRE(machine.memory.write(given, pattern));

    Area area{size};
    REQUIRE(::ioctl(machine.fd, get_xsave2, area.data()) == 0);
    area.components()[0] |= std::byte{avx_components};
    fill(area.low(0), 0x40);
    fill(area.high(0), 0x80);
    REQUIRE(::ioctl(machine.fd, set_xsave, area.data()) == 0);
    Area back{size};
    REQUIRE(::ioctl(machine.fd, get_xsave2, back.data()) == 0);
    CHECK(same(back.low(0), area.low(0)));
    CHECK(same(back.high(0), area.high(0)));

    REQUIRE(std::holds_alternative<vm_exit::Port>(machine.vcpu->run()));
    REQUIRE(machine.memory.read(found, seen));
    CHECK(same(std::span{seen}.first(16), area.low(0)));
    CHECK(same(std::span{seen}.last(16), area.high(0)));
    REQUIRE(::ioctl(machine.fd, get_xsave2, back.data()) == 0);
    CHECK((back.components()[0] & std::byte{avx_components}) == std::byte{avx_components});
    CHECK(same(back.low(1), std::span{pattern}.first(16)));
    CHECK(same(back.high(1), std::span{pattern}.last(16)));

    // What the CPU does not have is refused, and changes nothing
    Area wrong = back;
    wrong.components()[7] = std::byte{0x40};
    CHECK(::ioctl(machine.fd, set_xsave, wrong.data()) == -1);
    REQUIRE(::ioctl(machine.fd, get_xsave2, wrong.data()) == 0);
    CHECK(same(wrong.high(1), back.high(1)));
}
