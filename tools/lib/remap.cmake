# Read after each project(): the paths that assertions and logs of the compiled
# sources carry begin at the project, wherever it lies on the building machine.
add_compile_options("-ffile-prefix-map=${CMAKE_SOURCE_DIR}=${PROJECT_NAME}")
