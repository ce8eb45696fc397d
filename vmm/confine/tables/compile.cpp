// SPDX-License-Identifier: Apache-2.0
// Compiles the lists to programs of the kernel, when inox is built: compile OUTPUT
#include <seccomp.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <map>
#include <memory>
#include <string>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

#include "vmm/confine/tables/rule.hpp"

namespace inox::confine {
namespace {

using Program = std::vector<sock_filter>;

[[noreturn]] void give_up(const std::string& what, int error) {
    std::fprintf(stderr, "compile: %s: %s\n", what.c_str(), std::strerror(error));
    std::exit(1);
}

void add(scmp_filter_ctx filter, const Rule& rule) {
    const int number = ::seccomp_syscall_resolve_name(rule.call.c_str());
    if (number == __NR_SCMP_ERROR || number < 0)
        give_up("no call " + rule.call, EINVAL);
    std::vector<scmp_arg_cmp> conditions;
    for (const auto& one : rule.conditions)
        conditions.push_back(one.differs ? scmp_arg_cmp{one.argument, SCMP_CMP_NE, one.value, 0}
                                         : scmp_arg_cmp{one.argument, SCMP_CMP_MASKED_EQ, one.mask, one.value});
    const std::uint32_t action =
        rule.error == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(static_cast<std::uint32_t>(rule.error));
    const int added = ::seccomp_rule_add_exact_array(filter, action, number, static_cast<unsigned>(conditions.size()),
                                                     conditions.data());
    if (added != 0 && added != -EEXIST)
        give_up("rule of " + rule.call, -added);
}

/// A call without conditions makes rules with them superfluous, and libseccomp refuses to have both in some orders.
Rules without_superfluous(const Rules& rules) {
    std::map<std::string, bool> free;
    for (const auto& rule : rules)
        if (rule.conditions.empty())
            free[rule.call] = true;
    Rules out;
    for (const auto& rule : rules) {
        const auto found = free.find(rule.call);
        if (found == free.end() || (rule.conditions.empty() && std::exchange(found->second, false)))
            out.push_back(rule);
    }
    return out;
}

Program compile(const Rules& rules) {
    const std::unique_ptr<void, void (*)(void*)> filter{::seccomp_init(SCMP_ACT_TRAP), ::seccomp_release};
    if (!filter)
        give_up("seccomp_init", ENOMEM);
    // Another architecture's numbers, and x32's, are never right.
    if (const int set = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS); set != 0)
        give_up("bad architecture", -set);
    if (const int set = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2); set != 0) // a binary tree
        give_up("optimize", -set);
    for (const auto& rule : without_superfluous(rules))
        add(filter.get(), rule);
    std::FILE* file = std::tmpfile();
    if (file == nullptr)
        give_up("temporary file", errno);
    if (const int written = ::seccomp_export_bpf(filter.get(), ::fileno(file)); written != 0)
        give_up("seccomp_export_bpf", -written);
    std::rewind(file);
    Program program(BPF_MAXINSNS);
    program.resize(std::fread(program.data(), sizeof(sock_filter), program.size(), file));
    std::fclose(file);
    return program;
}

/// KVM_RUN is found before all else, since each exit of the guest is one. What libseccomp made follows.
Program with_kvm_run_first(const Program& program) {
    const auto jump = [](std::uint32_t value, std::uint8_t otherwise) {
        return sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, otherwise);
    };
    const auto load = [](std::uint32_t offset) { return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset); };
    Program out{load(offsetof(seccomp_data, arch)),
                jump(AUDIT_ARCH_X86_64, 5),
                load(offsetof(seccomp_data, nr)),
                jump(__NR_ioctl, 3),
                load(offsetof(seccomp_data, args[1])),
                jump(KVM_RUN, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    out.insert(out.end(), program.begin(), program.end());
    return out;
}

void write_programs(std::FILE* out) {
    std::map<std::string, std::string> known; // programs by their text
    std::string table;
    for (std::size_t kind = 0; kind < thread_kind_names.size(); ++kind)
        for (Features features = 0; features <= all_features; ++features) {
            const auto rules = rules_of(static_cast<ThreadKind>(kind), features);
            if (rules.empty()) {
                table += "    {},\n";
                continue;
            }
            auto program = compile(rules);
            if (static_cast<ThreadKind>(kind) == ThreadKind::vcpu ||
                static_cast<ThreadKind>(kind) == ThreadKind::cloner)
                program = with_kvm_run_first(program);
            if (program.size() > BPF_MAXINSNS)
                give_up("a list is too long", E2BIG);
            std::string text;
            for (const auto& one : program) {
                std::array<char, 64> line{};
                std::snprintf(line.data(), line.size(), "{%#x,%u,%u,%#x},\n", one.code, one.jt, one.jf, one.k);
                text += line.data();
            }
            auto [found, fresh] = known.try_emplace(text, "program_" + std::to_string(known.size()));
            if (fresh)
                std::fprintf(out, "constexpr sock_filter %s[] = {\n%s};\n", found->second.c_str(), text.c_str());
            table += "    " + found->second + ",\n";
        }
    std::fprintf(out, "constexpr std::span<const sock_filter> programs[] = {\n%s};\n", table.c_str());
}

void write_names(std::FILE* out) {
    constexpr int most = 512;
    std::fprintf(out, "constexpr const char* call_names[] = {\n");
    for (int number = 0; number < most; ++number) {
        char* name = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, number);
        std::fprintf(out, "    %s%s%s,\n", name ? "\"" : "", name ? name : "nullptr", name ? "\"" : "");
        std::free(name); // NOLINT: libseccomp's malloc
    }
    std::fprintf(out, "};\n");
}

} // namespace
} // namespace inox::confine

int main(int count, char** words) {
    if (count != 2)
        return 2;
    std::FILE* out = std::fopen(words[1], "w");
    if (out == nullptr)
        inox::confine::give_up(words[1], errno);
    std::fprintf(out, "// Made by vmm/confine/tables/compile.cpp\n");
    inox::confine::write_programs(out);
    inox::confine::write_names(out);
    return std::fclose(out) == 0 ? 0 : 1;
}
