// What AddressSanitizer's runtime goes by: the engine has no environment that could say it.

const char *__asan_default_options(void) {
    // Not a status, which a refusal has.
    return "abort_on_error=1"
           // Nothing is given back at the end of a process.
           ":detect_leaks=0"
           // A model may ask for more than there is: an exception, as in the machine.
           ":allocator_may_return_null=1:max_allocation_size_mb=4096"
           // The engine's filter would end one that asks for files or a terminal.
           ":symbolize=0:print_summary=0:print_legend=0:color=never"
           ":stack_trace_format=\"    #%n %p\"";
}
